// What test_client_openai_npm.py asks: node openai_npm.mjs ADDRESS MODEL WHAT. Prints one document.
import OpenAI from "openai";

const [address, model, what] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 });
const capital = [{ role: "user", content: "What is the capital of France? Answer in one sentence." }];
const weather = [{ role: "user", content: "How is the weather in Ulm? Use C." }];
const schema = {
  type: "object",
  properties: { town: { type: "string", enum: ["Ulm", "Rome", "Lima"] }, unit: { type: "string", enum: ["C", "F"] } },
  required: ["town", "unit"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
const chat = client.chat.completions;
const short = { model, messages: capital, max_tokens: 30, temperature: 0 };
const call = { model, messages: weather, tools, tool_choice: "required", max_tokens: 100 };
const form = { type: "json_schema", json_schema: { name: "weather", schema, strict: true } };

const asked = {
  plain: () => chat.create(short),
  async stream() {
    const pieces = [];
    let usage = null;
    for await (const chunk of await chat.create({ ...short, stream: true, stream_options: { include_usage: true } })) {
      pieces.push(chunk.choices[0]?.delta?.content ?? "");
      usage = chunk.usage ?? usage;
    }
    return { pieces, usage };
  },
  async tool() {
    const first = (await chat.create(call)).choices[0].message;
    const result = { role: "tool", tool_call_id: first.tool_calls[0].id, content: "Hail." };
    const then = await chat.create({ model, messages: [...weather, first, result], tools, max_tokens: 20 });
    return { calls: first.tool_calls, then: then.choices[0].message };
  },
  async streamed_tool() {
    const message = await chat.stream(call).finalMessage();
    return { calls: message.tool_calls };
  },
  async runs_tools() {
    // Their own loop: it calls the function and goes on, until an answer is text.
    const called = [];
    const given = (town) => (called.push(town), "Hail.");
    const tool = { ...tools[0].function, function: given, parse: JSON.parse };
    const wish = { ...call, tool_choice: { type: "function", function: { name: "weather" } } };
    await chat.runTools({ ...wish, tools: [{ type: "function", function: tool }] }).done();
    return { called };
  },
  schema: () => chat.parse({ model, messages: weather, response_format: form, max_tokens: 100 }),
  async streamed_schema() {
    return chat.stream({ model, messages: weather, response_format: form, max_tokens: 100 }).finalChatCompletion();
  },
  async responses() {
    const first = await client.responses.create({ model, input: capital, max_output_tokens: 30, temperature: 0 });
    const pieces = [];
    const wish = { model, input: "Say it again.", previous_response_id: first.id, max_output_tokens: 10 };
    for await (const event of await client.responses.create({ ...wish, stream: true })) {
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
    }
    return { text: first.output_text, pieces };
  },
  async embeddings() {
    const input = ["A cat sleeps.", "A kitten naps.", "Shares fell on Monday."];
    return (await client.embeddings.create({ model, input })).data.map((each) => each.embedding);
  },
  async unknown() {
    try {
      return await chat.create({ model: "smollm2:136m", messages: capital });
    } catch (error) {
      return { notFound: error instanceof OpenAI.NotFoundError, message: error.message };
    }
  },
};

console.log(JSON.stringify(await asked[what]()));
