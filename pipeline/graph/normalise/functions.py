"""Model-local functions are written out where they are called."""

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from pipeline.graph.editing import STANDARD_DOMAINS, bodies
from pipeline.graph.external import without_initialisers
from targets.errors import BadInput

MAX_NODES = 1_000_000  # functions that call each other twice, twenty levels deep, make more; no network does

Key = tuple[str, str, str]  # domain, name, overload


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without functions; `proto` is used up. Raises BadInput where they call themselves, or never end."""
    if not proto.functions:
        return proto
    functions = {(function.domain, function.name, function.overload): function for function in proto.functions}
    _check_calls(proto, functions)
    light = without_initialisers(proto)
    for tensor in proto.graph.initializer:  # the names alone: weights may be larger than what can be handed over
        light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    _speak_alike(light)
    try:
        plain = inliner.inline_local_functions(light, convert_version=True)
    except RuntimeError as error:
        raise BadInput(f"The model's functions cannot be written out: {' '.join(str(error).split())[:300]}") from error
    if plain.functions:
        left = plain.functions[0]
        raise BadInput(
            f"Function {left.name!r} speaks another operator set than the graph, and cannot be written out there. "
            "Export the model with one operator set."
        )
    del plain.graph.initializer[:]
    plain.graph.initializer.extend(proto.graph.initializer)
    return plain


def _speak_alike(proto: onnx.ModelProto) -> None:
    """The version of a domain that holds functions says nothing, but the inliner follows no call where two differ."""
    local = {function.domain for function in proto.functions} - set(STANDARD_DOMAINS)
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in imports:
            if entry.domain in local:
                entry.version = 1


def _check_calls(proto: onnx.ModelProto, functions: dict[Key, onnx.FunctionProto]) -> None:
    """Raises BadInput where a function reaches itself, or where the graph would have more than MAX_NODES nodes."""
    if len(functions) < len(proto.functions):
        raise BadInput("Two of the model's functions have the same name. Export it again.")
    calls = {key: [call for call in _calls(function.node) if call in functions] for key, function in functions.items()}
    own = {key: sum(1 for _ in _calls(function.node)) for key, function in functions.items()}
    sizes: dict[Key, int] = {}
    for start in functions:
        stack: list[Key] = [start]
        open_: set[Key] = set()
        while stack:
            key = stack[-1]
            if key in sizes:
                stack.pop()
                continue
            unknown = [call for call in calls[key] if call not in sizes]
            if not unknown:
                sizes[key] = own[key] + sum(sizes[call] for call in calls[key])
                stack.pop()
                continue
            open_.add(key)
            if open_.intersection(unknown):
                raise BadInput(f"Function {key[1]!r} calls itself, directly or through others: not a valid model.")
            stack.append(unknown[0])
    total = sum(sizes[call] for call in _calls(proto.graph.node) if call in functions)
    if total > MAX_NODES:
        raise BadInput(f"Written out, the model's functions have over {MAX_NODES} nodes: the model is broken.")


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[Key]:
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for body in bodies(node):
            yield from _calls(body.node)
