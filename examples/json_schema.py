"""An answer that holds to a JSON schema, whatever the model would rather say."""

import json

import filbert

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}, "country": {"type": "string", "maxLength": 40}},
    "required": ["city", "country"],
}

with filbert.load("smollm2:135m") as model:
    reply = model.generate("Name a capital in Europe and its country.", json_schema=SCHEMA, temperature=0).reply()

place = json.loads(reply.text)
print(f"{place['city']} is in {place['country']}.")
