"""A YAML file to checked calls: every error names the file, the line, the step and the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from imgedit import references, registry
from imgedit.engine import Call
from imgedit.errors import FileError, UsageError, nearest
from imgedit.stage import Param

MAX_BYTES = 1 << 20
SHIPPED = Path(__file__).parent / "data" / "pipelines"
RESOURCES = ("coarse_tile", "memory_target_gb", "overlap", "refine_tile")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Checked calls, and the resources that the file grants them.

    *folder*: where its relative files lie; *keep*: the folder in it where the result of every step is kept.
    """

    calls: tuple[Call, ...]
    resources: Mapping[str, float]
    folder: Path
    keep: str | None = None

    @property
    def unused(self) -> list[str]:
        """The resources that no step has an option for."""
        return [name for name in self.resources if not any(name in call.stage.params for call in self.calls)]

    def to_yaml(self) -> str:
        """Return the pipeline as YAML with every parameter that has a value; :func:`parse` reads it back alike.

        Relative files are written with their folder, so that the text can be kept anywhere.
        """
        steps = []
        for call in self.calls:
            given = [(param, call.params[param.name]) for param in call.stage.params.values()]
            options = {param.option: self._written(param, value) for param, value in given if value is not None}
            step: dict[str, Any] = {call.stage.name: options}
            if call.id != call.stage.name:
                step["id"] = call.id
            steps.append(step)
        data: dict[str, Any] = {"steps": steps}
        if self.resources:
            data["resources"] = dict(self.resources)
        if self.keep is not None:
            data["keep"] = str((self.folder / self.keep).absolute())
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)

    def _written(self, param: Param, value: Any) -> Any:
        if param.names_file(value):
            place = references.placed(param, value, self.folder)
            return str(Path(place).absolute()) if Path(place).exists() or param.kind != "model" else place
        if param.name == "backend":
            return registry.absolute(value, self.folder)
        return _plain(value)

    def check_backends(self) -> None:
        """Raise UsageError for a backend that does not exist; none is loaded."""
        for call in self.calls:
            if call.stage.backend:
                registry.backend_class(call.stage.backend[0], call.params["backend"])

    def override(self, setting: str) -> Pipeline:
        """Return the pipeline with ``STEP.OPTION=VALUE`` applied (*STEP*: a command name or an id)."""
        target, equals, value = setting.partition("=")
        id_, dot, option = target.partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {setting!r} is not STEP.OPTION=VALUE", "for example: --set upscale.scale=4")
        chosen = [call for call in self.calls if call.id == id_]
        if len(chosen) != 1:
            known = nearest(id_, {c.id for c in self.calls}) if not chosen else "give the steps an id each"
            raise UsageError(f"--set {setting}: {len(chosen)} steps are called {id_!r}", known)
        param = chosen[0].stage.param(option)
        checked = param.check(value)
        if param.names_file(checked):  # as typed in a shell: not beside the pipeline file
            place = references.placed(param, checked, Path())
            checked = str(Path(place).absolute()) if Path(place).exists() or param.kind != "model" else checked
        if param.name == "backend":
            checked = registry.absolute(checked, "")
        changed = replace(chosen[0], params={**chosen[0].params, param.name: checked})
        new = tuple(changed if call is chosen[0] else call for call in self.calls)
        for call, wrong in _unknown_names(new):
            raise UsageError(f"--set {setting}: step {call.id!r}: {wrong.message}", wrong.hint)
        return replace(self, calls=new)


def load(path: Path) -> Pipeline:
    """Read a pipeline file. Raises FileError or UsageError (exit codes 74 and 2)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(
            f"cannot read the pipeline {str(path)!r}: {error.strerror}", "give the path of a YAML file"
        ) from None
    return parse(data, str(path), path.parent)


def find(name: str) -> Pipeline:
    """Read the pipeline file *name*, or the one of that name which ships with imgedit (``remove-date-stamp``)."""
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped and not Path(name).is_file():
        return replace(load(shipped[name]), folder=Path())
    if not Path(name).is_file() and not name.endswith((".yaml", ".yml")):
        raise FileError(f"there is no pipeline {name!r}", nearest(name, shipped))
    return load(Path(name))


def parse(text: str | bytes, name: str = "pipeline", folder: Path = Path()) -> Pipeline:
    """Return the checked pipeline in *text* (YAML). Raises UsageError with *name* and the line."""
    if len(text) > MAX_BYTES:
        raise UsageError(f"{name} has {len(text)} bytes, more than a pipeline needs", "is it really a pipeline file?")
    try:
        loader = yaml.SafeLoader(text)
        return _Reader(name, folder, loader).pipeline(loader.get_single_node())
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{name}{line}: not valid YAML: {error.problem or error.context}", _SHAPE) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not valid YAML: {str(error)[:200]}", _SHAPE) from None


UNTIL = "clean"
#: rounds of a loop that does not say how many
ROUNDS = 3
_LOOP = "a loop looks like this:  loop: {until: clean, rounds: 3, steps: [detect-text, mask, erase]}"
_SHAPE = "a pipeline looks like this:  steps: [{mask: {rect: [10, 10, 80, 20]}}, erase]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(slots=True)
class _Reader:
    name: str
    folder: Path
    loader: yaml.SafeLoader

    def pipeline(self, root: yaml.Node | None) -> Pipeline:
        parts = self._mapping(root, ("steps", "resources", "keep"), "the file")
        keep = self._value(parts["keep"]) if "keep" in parts else None
        if keep is not None and not (isinstance(keep, str) and keep):
            raise self._error(parts["keep"], f"keep is {keep!r}, not a folder", "keep: FOLDER")
        steps = parts.get("steps")
        if not isinstance(steps, yaml.SequenceNode) or not steps.value:
            raise self._error(steps or root, "`steps` must be a list of at least one step", _SHAPE)
        calls: list[Call] = []
        nodes: list[yaml.Node] = []
        for node in steps.value:
            loop = self._loop(node)
            if loop is None:
                calls.append(self._step(node, len(calls) + 1, calls))
                nodes.append(node)
            else:
                self._looped(loop, calls, nodes)
        for call, wrong in _unknown_names(calls):
            number = calls.index(call)
            where = f"step {number + 1} ({call.stage.name})"
            raise self._error(nodes[number], f"{where}: {wrong.message}", wrong.hint)
        resources = self._resources(parts.get("resources"), calls)
        return Pipeline(tuple(calls), resources, self.folder, keep)

    def _loop(self, node: yaml.Node) -> yaml.Node | None:
        """Return what stands under ``loop:`` where *node* is one."""
        if not isinstance(node, yaml.MappingNode):
            return None
        found = [item for key, item in node.value if isinstance(key, yaml.ScalarNode) and key.value == "loop"]
        if found and len(node.value) > 1:
            raise self._error(node, "loop stands with another name in one step", _LOOP)
        return found[0] if found else None

    def _looped(self, node: yaml.Node, calls: list[Call], nodes: list[yaml.Node]) -> None:
        """Append the steps of a loop; those that can be done again get its rounds, unless they have their own."""
        parts = self._mapping(node, ("steps", "rounds", "until"), "loop")
        until = self._value(parts["until"]) if "until" in parts else UNTIL
        if until != UNTIL:
            raise self._error(parts["until"], f"loop: until {until!r} is nothing to wait for", f"until: {UNTIL}")
        steps = parts.get("steps")
        if not isinstance(steps, yaml.SequenceNode) or not steps.value:
            raise self._error(steps or node, "loop: `steps` must be a list of at least one step", _LOOP)
        rounds = self._value(parts["rounds"]) if "rounds" in parts else ROUNDS
        if rounds is None:
            raise self._error(parts["rounds"], "loop: rounds says nothing: how many at most?", f"rounds: {ROUNDS}")
        again = False
        for item in steps.value:
            if self._loop(item) is not None:
                raise self._error(item, "loop: a loop holds no other loop", "put the inner steps into the outer loop")
            call = self._step(item, len(calls) + 1, calls)
            if call.stage.again:
                again = True
                if call.params["until_clean"] is None:
                    try:
                        checked = call.stage.param("until-clean").check(rounds)
                    except UsageError as error:
                        wrong = error.message.partition(": ")[2]
                        raise self._error(parts["rounds"], f"loop: rounds: {wrong}", "rounds: 3") from None
                    call = replace(call, params={**call.params, "until_clean": checked})
            calls.append(call)
            nodes.append(item)
        if not again:
            raise self._error(node, "loop: none of its steps can be done again until nothing remains", _LOOP)

    def _step(self, node: yaml.Node, number: int, earlier: Sequence[Call]) -> Call:
        where = f"step {number}"
        options: yaml.Node | None = None
        id_: str | None = None
        if isinstance(node, yaml.ScalarNode):
            command = str(node.value)
        else:
            parts = self._mapping(node, None, where)
            id_node = parts.pop("id", None)
            id_ = str(self._value(id_node)) if id_node is not None else None
            if len(parts) != 1:
                names = ", ".join(parts) or "none"
                raise self._error(node, f"{where} must name one command, not {len(parts)} ({names})", _SHAPE)
            command, options = next(iter(parts.items()))
        try:
            stage = registry.stage(command)
            call = Call(stage, stage.check(self._options(options, f"{where} ({command})")), id_ or command)
        except UsageError as error:
            if error.message.startswith(self.name):
                raise
            raise self._error(node, f"{where} ({command}): {error.message}", error.hint) from None
        if not _NAME.fullmatch(call.id):
            raise self._error(node, f"{where}: id {call.id!r} is not a name", "use letters, digits, - and _")
        # two plain steps of one command may share its name: only a @name or a setting needs to tell them apart
        if any(c.id == call.id and (id_ or c.id != c.stage.name) for c in earlier):
            raise self._error(node, f"{where}: the id {call.id!r} is taken by an earlier step", "give it another id")
        return call

    def _options(self, node: yaml.Node | None, where: str) -> dict[str, Any]:
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            return {}
        return {key: self._value(item) for key, item in self._mapping(node, None, where).items()}

    def _resources(self, node: yaml.Node | None, calls: list[Call]) -> dict[str, float]:
        """Return the resources; the steps of *calls* that have an option of that name, and do not set it, get it."""
        if node is None:
            return {}
        found = {}
        for key, item in self._mapping(node, RESOURCES, "resources").items():
            value = self._value(item)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise self._error(item, f"resources: {key} is {value!r}", "give a number above 0")
            found[key] = value
            for number, call in enumerate(calls):
                if key in call.stage.params and call.params[key] is None:
                    try:
                        checked = call.stage.params[key].check(value)
                    except UsageError as error:
                        raise self._error(item, f"resources: {error.message}", error.hint) from None
                    calls[number] = replace(call, params={**call.params, key: checked})
        return found

    def _mapping(self, node: yaml.Node | None, allowed: Sequence[str] | None, where: str) -> dict[str, yaml.Node]:
        """Return the keys of a mapping node; refuse unknown and repeated ones."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where} must be a mapping of names to values", _SHAPE)
        found: dict[str, yaml.Node] = {}
        for key_node, item in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            if allowed is not None and key not in allowed:
                raise self._error(key_node, f"{where}: unknown key {key!r}", nearest(key, allowed))
            if key in found:
                hint = "keep one of them; a list stands in brackets: [10, 10, 20, 20]"
                raise self._error(key_node, f"{where}: {key!r} is given twice", hint)
            found[key] = item
        return found

    def _value(self, node: yaml.Node) -> Any:
        try:
            return self.loader.construct_object(node, deep=True)
        except yaml.MarkedYAMLError:
            raise
        except Exception as error:  # PyYAML lets whatever a tag's converter raises through
            raise self._error(node, f"{node.tag} cannot be made of this: {error!s:.100}", "drop the tag") from None

    def _error(self, node: yaml.Node | None, message: str, hint: str) -> UsageError:
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        return UsageError(f"{self.name}{line}: {message}", hint)


def _unknown_names(calls: Sequence[Call]) -> Iterator[tuple[Call, UsageError]]:
    """Yield the calls that use a @name which no step before them makes, or more than one."""
    for number, call in enumerate(calls):
        ids = [c.id for c in calls[:number]]
        known = ["@input", f"@before-{call.id}", *(f"@{when}-{i}" for i in ids for when in ("before", "after"))]
        for param in call.stage.params.values():
            value = call.params[param.name]
            if param.kind not in ("picture", "tone") or not isinstance(value, str) or not value.startswith("@"):
                continue
            if value not in known:
                what = f"--{param.option}: no earlier step makes {value!r}"
                yield call, UsageError(what, nearest(value, known))
            elif known.count(value) > 1:
                what = f"--{param.option}: {value!r} could be of more than one step"
                yield call, UsageError(what, "give the steps an id each")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
