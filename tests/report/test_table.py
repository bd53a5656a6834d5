from __future__ import annotations

from filbert.report.table import shortened, table

HEAD = ("name", "size", "source", "can")
ROWS = [("tiny:1b-q4_0", "98 MB", "/home/somebody/models/of/other/programs/tiny.gguf", "chat tools thinking vision")]


def test_a_table_without_a_width_is_whole() -> None:
    assert table(HEAD, ROWS).splitlines()[1] == "  ".join(ROWS[0])


def test_a_table_gives_way_to_the_width_the_first_column_first() -> None:
    head, row = table(HEAD, ROWS, 80, ("source", "can")).splitlines()
    assert max(len(head), len(row)) <= 80 and head.split() == list(HEAD)
    assert row.endswith("chat tools thinking vision") and "…" in row
    assert row.split()[3].startswith("/home/") and row.split()[3].endswith("tiny.gguf")
    narrow = table(HEAD, ROWS, 60, ("source", "can")).splitlines()[1]
    assert len(narrow) <= 60 and narrow.startswith("tiny:1b-q4_0") and narrow.endswith("…")
    assert table(HEAD, ROWS, 200, ("source",)) == table(HEAD, ROWS)


def test_a_path_keeps_both_ends_and_words_their_beginning() -> None:
    assert shortened("/models/of/others/tiny.gguf", 15) == "/models…ny.gguf"
    assert shortened("chat tools thinking", 11) == "chat tools…"
    assert shortened("chat", 4) == "chat"
