"""The commands, each in a file of its own. A command imports what is heavy when it runs."""

from __future__ import annotations

import typer

from filbert.cli import (
    bench,
    chat,
    chats,
    compress,
    config,
    convert,
    doctor,
    embed,
    evaluate,
    fidelity,
    fit,
    imatrix,
    import_models,
    keys,
    list_models,
    ollama_words,
    perplexity,
    ps,
    publish,
    pull,
    remove,
    report,
    rerank,
    score,
    search,
    serve,
    set,
    show,
)
from filbert.cli.command_group import CommandGroup

app = typer.Typer(
    name="filbert",
    cls=CommandGroup,
    help="Open language models in a nutshell: get one, run it, serve it, measure it.",
    epilog="`filbert --version` prints the version. As Ollama has them: run, ls, create.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("chat")(chat.chat)
app.add_typer(chats.app, name="chats")
app.command("pull")(pull.pull)
app.command("import")(import_models.import_models)
app.command("list")(list_models.list_models)
app.command("search")(search.search)
app.command("show")(show.show)
app.command("fit")(fit.fit)
app.command("set", cls=set.SetCommand)(set.set_preset)
app.command("rm")(remove.remove)
app.command("embed")(embed.embed)
app.command("rerank")(rerank.rerank)
app.command("score")(score.score)
app.command("perplexity")(perplexity.perplexity)
app.command("evaluate")(evaluate.evaluate)
app.command("fidelity")(fidelity.fidelity)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("convert")(convert.convert)
app.command("compress")(compress.compress)
app.command("imatrix")(imatrix.imatrix)
app.command("publish")(publish.publish)
app.command("serve")(serve.serve)
app.command("ps")(ps.ps)
app.command("stop")(ps.stop)
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
app.command("run", hidden=True)(ollama_words.run)
app.command("ls", hidden=True)(list_models.list_models)
app.command("create", hidden=True)(ollama_words.create)
app.command("cp", hidden=True)(ollama_words.copy)
app.command("help", hidden=True)(ollama_words.show_help)
