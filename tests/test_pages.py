"""The pages of docs/ are correct: their commands, code and links work."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import softvq_cli as softvq
from softvq_cli import datasets, layers, training, words
from softvq_cli.__main__ import main
from softvq_cli.cli import app
from softvq_cli.config import DataConfig
from tests.helpers import ROOT, Zygote

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "docs/commands/*.md", "docs/studies/*.md", "examples/*.md", ".github/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}
"""Path → text of every page that people read."""


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of ``docs/page`` in a language, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_of(shell: str) -> list[list[str]]:
    """The words of each ``softvq`` command in lines of a shell, those inside of ``"$(…)"`` included."""
    commands: list[list[str]] = []
    for line in shell.replace("\\\n", " ").splitlines():
        nested = re.search(r"\$\((softvq [^()]*)\)", line)
        while nested:
            commands += commands_of(nested[1])
            line = line.replace(nested[0], "FILE")  # noqa: PLW2901
            nested = re.search(r"\$\((softvq [^()]*)\)", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        current: list[str] | None = None
        for word in lexer:
            if word.rpartition("/")[2] == "softvq" and current is None:
                current = []
                commands.append(current)
            elif set(word) <= set("();<>|&"):
                current = None
            elif current is not None:
                current.append(word)
    return commands


def shell_lines(text: str) -> str:
    """The commands of a page: its shell blocks, lines in other tools' files that call softvq, and README's table."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [code for language, code in fenced if language == "sh"]
    others = "".join(code for language, code in fenced if language in ("make", "yaml", "snakemake"))
    lines += re.findall(r"softvq [^\"\n]*", re.sub(r"\{[\w.]+\}", "ae", others))
    return "\n".join([*lines, *re.findall(r"^\| `(softvq .*?)`", text, re.MULTILINE)])


RUN_ELSEWHERE = "docs/adding-a-bottleneck.md"
"""Its commands need the bottleneck that it adds; a test below runs them."""
SHELL = {page: shell_lines(text) for page, text in PAGES.items() if page != RUN_ELSEWHERE}


@pytest.mark.parametrize("page", [page for page, lines in SHELL.items() if "softvq " in lines])
def test_every_command_line_is_understood(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def without_its_work(name: str) -> Any:
        function = function_of(name)
        return functools.wraps(function)(lambda **_: None)

    monkeypatch.chdir(tmp_path)
    Path("train.toml").write_text('bottleneck = "vq"\n')  # the file of settings that pages speak of
    function_of = app.function_of
    monkeypatch.setattr(app, "function_of", without_its_work)
    app.build.cache_clear()
    try:
        commands = [words for words in commands_of(SHELL[page]) if "--help" not in words]
        assert commands
        for words_ in commands:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                assert main(words_) == 0, (words_, err.getvalue())
    finally:
        app.build.cache_clear()


def shell(code: str) -> None:
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)


def python(code: str) -> None:
    ast.parse(f"{{\n{code}}}" if code.startswith(" ") else code)  # a line of a dictionary, or a program


PARSERS = {"python": python, "py": python, "toml": tomllib.loads, "json": json.loads, "sh": shell}
CODE = [
    (page, language, code)
    for page, text in PAGES.items()
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if language in PARSERS
]


def test_every_block_of_code_is_valid() -> None:
    assert len(CODE) > 50
    for page, language, code in CODE:
        try:
            PARSERS[language](code)
        except (SyntaxError, ValueError, subprocess.CalledProcessError) as error:
            raise AssertionError(f"{page}: {error}\n{code}") from error


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page: str) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


def messages() -> list[str]:
    """Every message in the source as users see it: settings as options, values as an ellipsis."""
    texts: list[str] = []
    for path in (ROOT / "softvq_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(map(str, parts)))
    options = (re.sub(r"\{(\w+)\}", lambda name: "--" + name[1].replace("_", "-"), text) for text in texts)
    return [re.sub(r"\{[^{}]*\}", "…", text) for text in options]


def test_the_messages_that_are_explained_exist() -> None:
    explained = re.findall(r"^### `(.*)`$", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    known = messages()
    assert len(explained) >= 20
    for message in explained:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…")))
        assert any(pattern.search(text) for text in known), message


def test_the_sizes_of_the_networks_are_those_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("sizes.md", "python")
    exec(compile(code, "sizes.md", "exec"), {})
    rows = capsys.readouterr().out
    assert rows.count("\n") >= 6 and set(rows.splitlines()) <= set(PAGES["docs/sizes.md"].splitlines())


FRESH = """
import json, sys
for name in [name for name in sys.modules if name.split(".")[0] in ("softvq_cli", "tests")]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[1])
"""
"""In a process that has loaded the package from elsewhere."""
COMMANDS = f"""{FRESH}
from softvq_cli.__main__ import main
from softvq_cli.experiments import backends
backends.METHOD = "spawn"  # others have this package's modules
for words in json.loads(sys.argv[2]):
    code = main(words)
    if code:
        sys.exit(code)
"""
REGISTRY_TESTS = f"""{FRESH}
import pytest
sys.path.insert(1, sys.argv[2])
import softvq_cli
assert softvq_cli.__file__.startswith(sys.argv[1])
files = [sys.argv[2] + f"/tests/model/{{name}}.py" for name in ("test_bottlenecks", "test_evaluate")]
sys.exit(pytest.main([*files, "-k", "gaussian-noise", "-p", "no:cacheprovider", "-p", "no:xdist"]))
"""


def test_a_bottleneck_is_added_as_the_page_says(tmp_path: Path, zygote: Zygote) -> None:
    source, line, *_ = blocks("adding-a-bottleneck.md", "python")
    package = tmp_path / "packages" / "softvq_cli"
    shutil.copytree(ROOT / "softvq_cli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "model" / "bottlenecks" / "gaussian_noise.py").write_text(source, encoding="utf-8")
    words = package / "words.py"
    registry, begin, rest = words.read_text(encoding="utf-8").partition("\nBOTTLENECKS: ")
    entries, end, rest = rest.partition("\n}\n")
    words.write_text(f"{registry}{begin}{entries}\n{line.rstrip()}{end}{rest}", encoding="utf-8")

    train, info, reproduce = (
        shlex.split(command)[1:] for command in blocks("adding-a-bottleneck.md", "sh")[0].splitlines()
    )
    commands = [[*train, "--iterations", "20", "--quiet"], [*info, "--json"], [*reproduce, "--json", "--jobs", "1"]]
    ended = zygote.python(COMMANDS, package.parent, json.dumps(commands), cwd=tmp_path, small=False).done()
    decoder = json.JSONDecoder()
    path, _, documents = ended.out.partition("\n")
    described, at = decoder.raw_decode(documents)
    comparison, _ = decoder.raw_decode(documents[at:].lstrip())
    assert Path(path) == Path("runs/noise/ckpt.pt")
    assert described["config"]["model"]["bottleneck"] == "gaussian-noise"
    assert described["config"]["model"]["noise_std"] == 0.5
    assert {"loss", "nmse", "power"} <= set(described["metrics"])
    rows = {row["row"]: row["label"] for row in comparison["rows"]}
    assert rows == {"ae": "baseline autoencoder", "gaussian-noise": "Gaussian noise"}
    assert not comparison["failed"]
    table = (tmp_path / "reproduce" / "table1" / "table1.md").read_text(encoding="utf-8")
    [row] = [line for line in table.splitlines() if line.startswith("| Gaussian noise |")][:1]
    assert re.search(r"\d\d\.\d\d", row)
    assert "gaussian-noise: noise std 0.5" in table

    zygote.python(REGISTRY_TESTS, package.parent, str(ROOT), cwd=tmp_path, small=False).done()


def test_a_package_adds_a_bottleneck_and_a_logger_as_the_page_says(tmp_path: Path) -> None:
    source, _, entry, logger = blocks("adding-a-bottleneck.md", "python")
    [project] = blocks("adding-a-bottleneck.md", "toml")
    package, metadata = tmp_path / "my_noise", tmp_path / "my_noise-1.dist-info"
    for folder in (package, metadata):
        folder.mkdir()
    for name, text in {"__init__": entry, "noise": source, "lines": logger}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-noise\nVersion: 1\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = ("--bottleneck", "gaussian-noise", "--log", "lines", "--iterations", "20", "--log-every", "10", "-o", "run")
    done = subprocess.run(
        [sys.executable, "-m", "softvq_cli", "train", *words, "--device", "cpu", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["config"]["model"]["bottleneck"] == "gaussian-noise"
    assert "power" in document["metrics"]
    logged = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in logged] == ["10", "20"]


def test_a_bottleneck_that_cannot_be_loaded_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "absent": EntryPoint("absent", "not_there:ENTRY", "softvq.bottlenecks"),
        "number": EntryPoint("number", "math:pi", "softvq.bottlenecks"),
        "vq": EntryPoint("vq", "math:pi", "softvq.bottlenecks"),
    }
    monkeypatch.setitem(words._PLUGINS, "softvq.bottlenecks", points)
    monkeypatch.setattr(words, "BROKEN", {})
    assert words._registered(words.BOTTLENECKS) == words.BOTTLENECKS
    assert set(words.BROKEN) == {"absent", "number"}


def test_what_the_page_promises_is_there_with_its_arguments_and_shapes() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    section = page.partition("## What is public")[2].partition("\n## ")[0]
    promised = set(re.findall(r"`softvq_cli\.([\w.]+)`", section))
    ours = {*softvq.__all__, *(f"layers.{name}" for name in layers.__all__)}
    assert {name for name in promised if "." not in name or name.startswith("layers.")} == ours
    for name in promised - {"__version__"}:
        module, _, last = name.rpartition(".")
        public = getattr(importlib.import_module(f"softvq_cli.{module}".rstrip(".")), last)
        methods = [f for n, f in inspect.getmembers(public, inspect.isroutine) if n in vars(public) and n[0] != "_"]
        for each in (public, *methods) if inspect.isclass(public) else (public,):
            assert inspect.getdoc(each), f"{name}: {each}"
        if name in softvq.__all__ and name != "load":
            assert re.search(r"\(N,|\(N\)", inspect.getdoc(public) or ""), name
        if name.startswith("layers.") and last != "Quantised":
            assert "(…, dim)" in (inspect.getdoc(public.forward) or ""), name


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the Python code of a page may use, with a short run in ``runs/first``; trainings are short."""
    monkeypatch.chdir(tmp_path)
    digits = datasets.load(DataConfig("digits"), "train")
    train, embedder = training.train, softvq.AutoencoderEmbedder
    train({"data": "digits", "iterations": 3}, out=tmp_path / "runs" / "first")
    monkeypatch.setattr(training, "train", lambda chosen, **how: train({**chosen, "iterations": 3}, **how))

    def short(*given: Any, **chosen: Any) -> softvq.AutoencoderEmbedder:
        return embedder(*given, **{**chosen, "iterations": 30})

    short.load = embedder.load  # type: ignore[attr-defined]
    monkeypatch.setattr(softvq, "AutoencoderEmbedder", short, raising=False)
    return {"images": digits.images, "labels": digits.labels}


def run_in_order(page: str, names: dict[str, Any]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)


def test_the_python_of_the_readme_runs(names: dict[str, Any]) -> None:
    run_in_order("../README.md", names)
    assert names["z_e"].shape == (1797, 16)
    assert names["z_e"].dtype == "float32"


def test_the_python_of_the_api_page_runs_in_order(names: dict[str, Any], tmp_path: Path) -> None:
    run_in_order("python-api.md", names)
    n = len(names["images"])
    assert names["z_e"].shape == (n, 16)
    assert names["codes"].shape == (n, 1)
    assert names["classifier"].score(names["images"], names["labels"]) > 0.2  # chance is 0.1
    assert names["table_embedder"].transform(names["rows"]).shape == (n, 8)
    assert len(set(names["clusters"])) == 10
    assert names["run"].path.is_file()
    assert names["run"].path.resolve() == (tmp_path / "runs" / "vq" / "ckpt.pt").resolve()
