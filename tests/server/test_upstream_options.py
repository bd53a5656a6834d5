"""Where other servers are, and what opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from filbert.core.errors import BadInput, BadSetting
from filbert.core.settings import checked, configured
from filbert.engine.load_options import LoadOptions
from filbert.engine.pool import Pool
from filbert.server.offered import MODELS_SHOWN, Offered
from filbert.server.serve_options import ServeOptions
from filbert.server.upstreams.options import UpstreamOptions
from filbert.server.upstreams.registry import Upstreams

NEAR = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://box.example", "https://box.example/v1"),
        ("https://box.example/openai/v1/", "https://box.example/openai/v1"),
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://192.168.1.7:8000/v1", "http://192.168.1.7:8000/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_that_of_any_client(given: str, url: str) -> None:
    assert configured(ServeOptions, {"upstream": [f"box={given}"]}).upstream["box"].url == url


@pytest.mark.parametrize(
    "given",
    [
        "box",
        "box=",
        "Box=https://box.example",
        "a/b=https://box.example",
        "box=ftp://box.example",
        "box=https://user:secret@box.example",
        "box=https://box.example/v1?key=secret",
        "box=https://box.example:port",
        "box=http://box.example",  # unencrypted, beyond this network
        "box=http://8.8.8.8",
        "box=https://box .example",
    ],
)
def test_an_address_that_is_none_or_not_safe_is_refused(given: str) -> None:
    with pytest.raises(BadSetting, match="upstream"):
        checked(ServeOptions, {"upstream": [given, "other=https://box.example"]})


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(BadSetting, match="same name"):
        checked(ServeOptions, {"upstream": ["box=https://a.example", "box=https://b.example"]})


def test_a_table_of_the_settings_says_more(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[serve.upstream.box]\nurl = "http://box.lan"\nplain = true\nparallel = 2\n')
    found = configured(ServeOptions).upstream["box"]
    assert (found.url, found.parallel) == ("http://box.lan/v1", 2)


def test_a_key_comes_out_of_a_variable_that_no_child_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("BOX_KEY", " sk-box \n")
    options = UpstreamOptions(url=NEAR, key_variable="BOX_KEY")
    assert options.key("box") == "sk-box"
    assert "BOX_KEY" not in os.environ
    with pytest.raises(BadSetting, match="BOX_KEY is not set"):
        options.key("box")


def test_a_key_comes_out_of_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "key"
    options = UpstreamOptions(url=NEAR, key_file=str(file))
    with pytest.raises(BadInput, match="key file of box cannot be read"):
        options.key("box")
    file.write_text("sk-box\n")
    file.chmod(0o644)
    with pytest.raises(BadSetting, match="Others may read"):
        options.key("box")
    file.chmod(0o600)
    assert options.key("box") == "sk-box"
    file.write_text("two words\r\nX-More: 1")
    with pytest.raises(BadSetting, match="is none") as refused:
        options.key("box")
    assert "words" not in str(refused.value)


def test_a_key_of_ours_sees_only_its_models_there_too() -> None:
    upstreams = Upstreams({"box": UpstreamOptions(url=NEAR)})
    (box,) = upstreams.all
    box.models = ("one", "org/two")
    offered = Offered(Pool(LoadOptions()), upstreams=upstreams)
    assert [each.name for each in offered.remotes()] == ["box/one", "box/org/two"]
    token = MODELS_SHOWN.set(frozenset({"box/one"}))
    try:
        assert [each.name for each in offered.remotes()] == ["box/one"]
        assert offered.remote("box/org/two") is None
        assert offered.remote("box/one")
    finally:
        MODELS_SHOWN.reset(token)
    assert offered.remote("box/three") is None
