"""What the help says is what the code says: nothing of it is swallowed on the way to the terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from scantwin.cli.commands import _ORDER, cli

WIDE = 400
"""Columns: no sentence is broken."""


def every_command(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = (*above, name)
        if isinstance(command, click.Group):
            yield from every_command(command, path)
        else:
            yield " ".join(path), command


COMMANDS = dict(every_command(cli))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_word_of_a_commands_help_is_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDE))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", WIDE)
    assert COMMANDS[name].main(["--help"], prog_name=f"scantwin {name}", standalone_mode=False) in (None, 0)
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for parameter in COMMANDS[name].params:
        if (words := getattr(parameter, "help", None)) is None:
            # A version of click once kept the help of arguments to itself.
            assert not isinstance(parameter, click.Argument), f"{parameter.name} has no help"
            continue
        assert " ".join(words.split()) in shown, f"{parameter.name}: square brackets are markup"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_can_be_copied(name: str) -> None:
    for line in (COMMANDS[name].help or "").splitlines():
        example = re.fullmatch(r"\s*(scantwin .*)", line)
        if example is None:
            continue
        command = example[1].partition("#")[0].strip()
        assert "   " not in command, f"a remark without #: {line}"
        words = shlex.split(command)[1:]
        own = COMMANDS[" ".join(words[:2])] if " ".join(words[:2]) in COMMANDS else COMMANDS[words[0]]
        known = {option for p in own.params for option in (*p.opts, *p.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word in known, f"{word} is no option: {line}"


def test_paragraphs_fill_the_terminal_and_examples_keep_their_lines() -> None:
    paragraphs = (COMMANDS["train"].help or "").split("\n\n")
    assert [len(part.splitlines()) for part in paragraphs] == [1, 1, 1, 1, 2]
    assert all("\b" not in (command.help or "") for command in COMMANDS.values())


def test_the_list_of_commands_says_of_each_what_it_does_to_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.main(["--help"], prog_name="scantwin", standalone_mode=False)
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert " ".join((command.help or "").split("\n\n")[0].split()) in shown, name


def test_the_order_of_the_help_names_only_commands_that_there_are() -> None:
    assert set(_ORDER) <= {name.split()[0] for name in COMMANDS}
