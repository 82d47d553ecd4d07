"""How a function becomes a command: bundles of options opened, and an environment variable for every option."""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import OptionInfo

from softvq_cli.cli.options import Bundle
from softvq_cli.cli.progress import Terminal

_PREFIX = "SOFTVQ_"
_CONTEXT = "typer_context"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` with each parameter that is a bundle replaced by the bundle's options.

    A parameter annotated ``settings: Settings`` becomes one option a setting of a run and receives a
    dictionary with those that the user gave; ``terminal: Streams`` becomes ``--quiet`` and ``--debug``.
    """
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, tuple[Bundle, list[str]]] = {}
    for one in inspect.signature(function, eval_str=True).parameters.values():
        bundle = next((m for m in _metadata(one.annotation) if isinstance(m, Bundle)), None)
        if bundle is None:
            parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            options = bundle.parameters()
            bundles[one.name] = bundle, [option.name for option in options]
            parameters.extend(options)
    parameters = [_with_variable(one) for one in parameters]
    parameters.append(inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))

    @functools.wraps(function)
    def call(**values: Any) -> None:
        variables = _variables_used(values.pop(_CONTEXT))
        from softvq_cli.cli import place  # here, since a help page needs nothing of what it loads

        with place.prepared(heard=values.get("debug", False)):
            built: dict[str, Any] = {}
            for name in sorted(bundles, key=lambda name: name != "terminal"):  # it can speak when others are refused
                bundle, names = bundles[name]
                built[name] = bundle.build({n: values.pop(n) for n in names})
                if variables and isinstance(built[name], Terminal):
                    built[name].note(f"from the environment: {', '.join(variables)}")
            function(**values, **built)

    del call.__wrapped__  # or the signature would be looked for there
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def variable_of(option: str) -> str:
    """``--latent-dim`` → ``SOFTVQ_LATENT_DIM``."""
    return _PREFIX + option.removeprefix("--").replace("-", "_").upper()


def _with_variable(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with its environment variable, if it is an option and ``allow_from_autoenv`` was not taken away.

    A variable of ours that the option names itself stays the only one; others are asked after ours.
    """
    found = next((m for m in _metadata(parameter.annotation) if isinstance(m, OptionInfo)), None)
    if found is None or not found.allow_from_autoenv:
        return parameter
    option = copy.copy(found)
    own = [option.envvar] if isinstance(option.envvar, str) else []
    if not own or not own[0].startswith(_PREFIX):
        spellings = (option.default, *(option.param_decls or ()))  # Typer takes the first for the default until later
        long = next(words for words in spellings if isinstance(words, str) and words.startswith("--"))
        option.envvar = [variable_of(long.partition("/")[0]), *own]
    option.show_envvar = False
    kind = get_args(parameter.annotation)[0]
    others = [m for m in _metadata(parameter.annotation) if m is not found]
    return parameter.replace(annotation=Annotated[(kind, option, *others)])


def _variables_used(context: typer.Context) -> list[str]:
    """The environment variables that options were taken from."""
    used = []
    for param in context.command.params:
        source = context.get_parameter_source(param.name)
        if source is not None and source.name == "ENVIRONMENT":
            names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or []
            used.append(next(name for name in names if os.environ.get(name)))
    return used


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
