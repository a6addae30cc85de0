"""A loss taken apart: what it asks of one pair, of a row, and of an anchor.

A loss that is a function of statistics of its anchor's row is the same arithmetic for
every pair, with reductions over references in between. `trace` runs the loss once on
abstract pairs and finds this structure in what it computed, so that a loss needs no
second form: what it does to one pair can then be evaluated, and differentiated, for any
set of pairs, in any layout. A loss without this structure, one that sorts its row, say,
is left as it is.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from rankjax import rows
from rankjax.blocks import spread
from rankjax.pairs import Pairs

_SHAPES = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "copy", "pvary")
_ELEMENTWISE = frozenset(
    """
    abs acos add add_any and asin atan atan2 cbrt ceil clamp convert_element_type copy
    copy_p cos cosh div eq erf exp exp2 expm1 floor ge gt integer_pow is_finite le log
    log1p logistic lt max min mul ne neg nextafter not or pow rem round rsqrt select_n
    sign sin sinh sqrt square stop_gradient sub tan tanh xor
    """.split()  # noqa: SIM905
)
_ALONG = ("axes", "axis", "dimension")
_REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_or": "any",
    "reduce_and": "all",
    "reduce_max": "max",
    "reduce_min": "min",
    "log_sum_exp": "log_sum_exp",
    "largest": "largest",
    "first_largest": "first_largest",
    "at_positive": "at_positive",
    "log_sum_exp_of_both": "log_sum_exp_of_both",
}
_NAMES = (
    "log_sum_exp",
    "log_sum_exp_of_both",
    "largest",
    "first_largest",
    "this_positive",
    "at_positive",
    "positive_row",
    "over_positives",
)
# Sizes that no array of a loss has by chance.
_ANCHORS, _REFERENCES = 1009, 1013


@dataclasses.dataclass(frozen=True)
class _Step:
    """One operation; values are numbered, a literal is its own value."""

    name: str
    eqn: jex.JaxprEqn
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]

    @property
    def params(self) -> Mapping[str, Any]:
        return self.eqn.params


@dataclasses.dataclass(frozen=True)
class _Flat:
    """A function as a list of operations, calls unfolded."""

    steps: tuple[_Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[Any, ...]
    avals: tuple[Any, ...]
    consts: tuple[Any, ...]

    def shape(self, value: Any) -> tuple[int, ...]:
        return self.avals[value].shape if isinstance(value, int) else ()


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A reduction over the references of an anchor.

    Attributes:
      kind: 'sum', 'any', 'all', 'max', 'min', 'log_sum_exp', 'largest' or
        'at_positive', of which the last three have a mask as second operand;
        'log_sum_exp_of_both', over the negatives, of the sum of an operand and of the
        positive's own one; 'of_positive', a statistic that the positive at hand has as
        an anchor; or 'over_positives', a sum of what is computed for each positive.
      each_positive: whether every positive of the anchor has one of its own.
      stage: how many reductions, this one included, follow one from another.
      differentiable: whether a gradient may flow through it.
      needs_gradient_of: numbers of the statistics that its operand depends on and
        sends a gradient to.
      source: number of the statistic that is looked up, for 'of_positive'.
      looks_at: of what pairs know of anchors, that which a gradient may flow to.
      of_positives: whether pairs that are not positive leave it as it is.
      of_negatives: whether pairs that are not negative leave it as it is.
      dtype: of the result.
      size: shape of the result for one anchor.
    """

    kind: str
    each_positive: bool
    stage: int
    differentiable: bool
    needs_gradient_of: frozenset[int]
    source: int | None
    looks_at: frozenset[int]
    of_positives: bool
    of_negatives: bool
    dtype: Any
    size: tuple[int, ...]
    step: _Step

    @property
    def is_of_row(self) -> bool:
        """Whether it is of an anchor's row."""
        return self.on_pairs and not self.each_positive

    @property
    def on_pairs(self) -> bool:
        """Whether it is computed from the pairs of an anchor, and nothing else."""
        others = ("of_positive", "over_positives")
        return self.kind not in others and not self.is_of_both

    @property
    def is_of_both(self) -> bool:
        """Whether it is of two rows, the anchor's and its positive's."""
        return self.kind == "log_sum_exp_of_both"


@dataclasses.dataclass(frozen=True)
class Program:
    """What `trace` found.

    Attributes:
      statistics: the reductions over references, in the order of the loss.
      structure: of the result of the loss, whose leaves are [anchor].
      only_sides: whether pairs that are neither positive nor negative change nothing.
    """

    statistics: tuple[Statistic, ...]
    structure: Any
    only_sides: bool
    _flat: _Flat
    _on_pairs: frozenset[int]
    _this: frozenset[int]
    _constant: frozenset[int]
    _shared: tuple[int, ...]
    _positions: frozenset[int]
    _fields: tuple[str, ...]

    def anchor(
        self,
        fields: Mapping[str, Any],
        settings: Sequence[Any],
        known: Sequence[jax.Array],
    ) -> tuple[list[jax.Array], list[jax.Array], dict[int, list[jax.Array]]]:
        """The part that looks at an anchor and its statistics, for one anchor.

        Args:
          fields: scalars by the names of `Pairs`, those of the anchor.
          settings: from `trace`.
          known: [] values of the statistics.

        Returns:
          What the part that looks at a pair needs to know, the leaves of the result as
          scalars, and the operands of every sum over positives.
        """
        values = self._start(fields)
        values.update(zip(self._settings, settings, strict=True))
        for statistic, value in zip(self.statistics, known, strict=True):
            output = statistic.step.outputs[0]
            values[output] = value.reshape(self._flat.shape(output))
        for step in self._flat.steps:
            if step.outputs[0] not in self._on_pairs | values.keys():
                _run(step, values)
        shared = [values[i] for i in self._shared]
        leaves = [jnp.reshape(_read(values, i), ()) for i in self._flat.outputs]
        return (
            shared,
            leaves,
            {
                i: [_read(values, x) for x in s.step.inputs]
                for i, s in enumerate(self.statistics)
                if s.kind == "over_positives"
            },
        )

    def pair(
        self,
        fields: Mapping[str, Any],
        position: jax.Array,
        this: jax.Array,
        shared: Sequence[Any],
    ) -> dict[int, list[jax.Array]]:
        """The part that looks at a pair, for one pair.

        Args:
          fields: scalars by the names of `Pairs`, those of the pair and the reference.
          position: [] which column the reference is.
          this: [] whether the reference is the positive at hand.
          shared: from `anchor`.

        Returns:
          The operands of every statistic of pairs, or of two rows of them.
        """
        values = self._start(fields)
        values.update(zip(self._shared, shared, strict=True))
        for step in self._flat.steps:
            output = step.outputs[0]
            if output in self._positions:
                aval = self._flat.avals[output]
                values[output] = position.astype(aval.dtype).reshape(aval.shape)
            elif output in self._this:
                values[output] = this.reshape(self._flat.shape(output))
            elif output in self._on_pairs or output in self._constant:
                _run(step, values)
        return {
            i: [jnp.reshape(_read(values, x), ()) for x in s.step.inputs]
            for i, s in enumerate(self.statistics)
            if s.on_pairs or s.is_of_both
        }

    @property
    def looks_from_positives(self) -> bool:
        """Whether whole rows are looked at once for each positive."""
        return any(
            s.each_positive and s.on_pairs and s.kind != "at_positive"
            for s in self.statistics
        )

    @property
    def of_both(self) -> tuple[int, ...]:
        """The statistics that are of two rows, an anchor's and its positive's."""
        return tuple(i for i, s in enumerate(self.statistics) if s.is_of_both)

    @property
    def rows_feel_positives(self) -> bool:
        """Whether statistics of an anchor have a gradient from sums over positives."""
        return any(
            s.kind == "over_positives"
            for s in self.statistics
            for i in s.needs_gradient_of
            if not self.statistics[i].each_positive
            or self.statistics[i].kind == "of_positive"
        )

    def uses(self, field: str) -> bool:
        """Whether `Pairs` had this field."""
        return field in self._fields

    @property
    def _settings(self) -> tuple[int, ...]:
        return self._flat.inputs[len(self._fields) :]

    def _start(self, fields: Mapping[str, Any]) -> dict[int, Any]:
        return {
            number: jnp.reshape(fields[name], self._flat.shape(number))
            for name, number in zip(self._fields, self._flat.inputs, strict=False)
            if name in fields
        }


def trace(
    function: Callable[[Pairs, Any], Any], pairs: Pairs, settings: Any
) -> tuple[Program, list[Any]] | None:
    """Takes a function of pairs apart.

    Args:
      function: maps Pairs and settings to a pytree of arrays [anchor].
      pairs: an example; only types, and which fields are given, matter. Its
        `reference_similarity` is not offered to the function.
      settings: pytree of arrays, to which gradients flow.

    Returns:
      The program, and its settings: those given, and arrays that the function holds on
      to. None for a function that is not of this form.
    """
    fields = tuple(
        f.name
        for f in dataclasses.fields(pairs)
        if getattr(pairs, f.name) is not None
        and f.name not in ("reference_similarity", "key", "dim")
    )
    found = [
        _flatten(function, pairs, fields, settings, *sizes)
        for sizes in ((1, 1), (_ANCHORS, _REFERENCES))
    ]
    if found[0] is None or found[1] is None:
        return None
    (small, structure), (large, _) = found[0], found[1]
    if _signature(small) != _signature(large):
        return None
    if not all(map(_by_pair(large), large.steps)):
        return None
    if any(
        large.shape(i)[:1] != (_ANCHORS,) or len(large.shape(i)) != 1
        for i in large.outputs
    ):
        return None
    positions = _positions(small, large)
    program = _analyse(small, structure, fields, positions)
    wide = [s for s in large.steps if _is_reduction(large, s)]
    wide += [s for s in large.steps if s.name in ("over_positives", "of_positive")]
    if program is None or len(program.statistics) != len(wide):
        return None
    return program, [*jax.tree.leaves(settings), *small.consts]


def _flatten(
    function: Callable[[Pairs, Any], Any],
    pairs: Pairs,
    fields: tuple[str, ...],
    settings: Any,
    anchors: int,
    references: int,
) -> tuple[_Flat, Any] | None:
    sizes = {"anchor": (anchors,), "reference": (references,)}
    empty = jax.tree.map(lambda _: None, pairs)
    example = [
        # Made of the real ones, to be spread over devices as they are.
        jnp.broadcast_to(
            jnp.ravel(getattr(pairs, name))[0],
            sizes.get(name.split("_")[0], (anchors, references)),
        )
        for name in fields
    ]

    def call(leaves: list[Any], settings: Any) -> Any:
        given = dict(zip(fields, leaves, strict=True))
        return function(dataclasses.replace(empty, dim=pairs.dim, **given), settings)

    token = rows.being_traced.set(True)
    try:
        closed, structure = jax.make_jaxpr(call, return_shape=True)(example, settings)
    except (TypeError, ValueError):
        return None  # it says why once it is called as it is
    finally:
        rows.being_traced.reset(token)
    if closed.effects:
        return None  # a print or a callback is to see the pairs as they are
    shared = [n for n in fields if n == "negative" or n.startswith("reference_")]
    try:
        flat = _unfold(closed, [n not in shared for n in fields])
    except _Private:
        return None
    return flat, jax.tree.structure(structure)


class _Private(Exception):
    """A positive's row, seen as only its anchor can see it."""


def _unfold(closed: jex.ClosedJaxpr, is_private: Sequence[bool] = ()) -> _Flat:
    """The operations of a function.

    A statistic of a positive's row is the positive's own, as an anchor, where it is
    the same from every anchor of the class: it is computed from the row of the anchor,
    and looked up.

    Args:
      closed: the function.
      is_private: which inputs differ from the anchor to its positives, the first ones.
    """
    steps: list[_Step] = []
    avals: list[Any] = []
    seen: dict[Any, list[Any]] = {}
    # Of values of a positive's row, and of its statistics, those of the anchor's.
    own: dict[Any, int] = {}
    looked_up: dict[Any, int] = {}
    private: set[int] = set()

    def new(variable: Any) -> int:
        avals.append(variable.aval)
        return len(avals) - 1

    def add(name: str, eqn: jex.JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
        key = (str(eqn.params), eqn.primitive, *map(_identity, inputs))
        # What a custom derivative is does not show in its parameters' text.
        plain = "call_jaxpr" not in eqn.params
        if key not in seen or not (plain or name in _NAMES):
            seen[key] = [new(v) for v in eqn.outvars]
            steps.append(_Step(name, eqn, tuple(inputs), tuple(seen[key])))
            if not private.isdisjoint(filter(_is_number, inputs)):
                private.update(seen[key])
        return seen[key]

    def of_positive(name: str, eqn: jex.JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
        outputs = [new(v) for v in eqn.outvars]
        if name == "positive_row":
            own[outputs[0]] = inputs[0]
            return outputs
        if name == "log_sum_exp_of_both":
            values, others, where = inputs
            if own.get(_identity(others)) != values or _identity(where) in own:
                raise _Private
            return add(name, eqn, [values, where])
        numbers = {i for i in inputs if isinstance(i, int)}
        if name == "at_positive" or private & (numbers - looked_up.keys()):
            raise _Private
        twins = own | looked_up
        found = add(name, eqn, [twins.get(_identity(i), i) for i in inputs])
        if name in _REDUCTIONS:
            steps.append(_Step("of_positive", eqn, tuple(found), tuple(outputs)))
            looked_up.update(zip(outputs, found, strict=True))
            private.update(outputs)
        else:
            own.update(zip(outputs, found, strict=True))
        return outputs

    def visit(jaxpr: Any, arguments: Sequence[Any]) -> list[Any]:
        known = dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            if isinstance(atom, jex.Literal):
                return np.asarray(atom.val, getattr(atom.aval, "dtype", None))
            return known[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            inner = eqn.params.get("jaxpr")
            name = _statistic(eqn) or eqn.primitive.name
            is_call = isinstance(inner, jex.ClosedJaxpr) and not inner.consts
            if is_call and name not in _NAMES:
                outputs = visit(inner.jaxpr, inputs)
                known.update(zip(eqn.outvars, outputs, strict=True))
                continue
            elsewhere = name in ("positive_row", "log_sum_exp_of_both") or any(
                _identity(i) in own for i in inputs
            )
            outputs = (of_positive if elsewhere else add)(name, eqn, inputs)
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    jaxpr = closed.jaxpr
    inputs = [new(v) for v in (*jaxpr.invars, *jaxpr.constvars)]
    private.update(i for i, hidden in zip(inputs, is_private, strict=False) if hidden)
    order = (*jaxpr.invars, *jaxpr.constvars)

    class Open:
        invars, eqns, outvars = order, jaxpr.eqns, jaxpr.outvars

    outputs = visit(Open, inputs)
    return _Flat(
        tuple(_needed(steps, outputs)),
        tuple(inputs),
        tuple(outputs),
        tuple(avals),
        tuple(closed.consts),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int)


def _identity(value: Any) -> Any:
    return value if isinstance(value, int) else (value.dtype.str, value.tobytes())


def _needed(steps: list[_Step], outputs: Sequence[Any]) -> list[_Step]:
    """The operations that outputs depend on."""
    wanted, kept = {o for o in outputs if isinstance(o, int)}, []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(i for i in step.inputs if isinstance(i, int))
            kept.append(step)
    return kept[::-1]


def _without(flat: _Flat, *masks: int) -> dict[int, Any]:
    """The values that are known, and constant, where masks are False."""
    known: dict[int, Any] = dict.fromkeys(masks, False)

    def get(i: Any) -> Any:
        if isinstance(i, int):
            return known.get(i)
        return i.item() if i.size == 1 else None

    for step in flat.steps:
        given = [get(i) for i in step.inputs]
        result = None
        if step.name in (*_SHAPES, "convert_element_type", "stop_gradient"):
            result = given[0]
        elif step.name in ("and", "mul") and 0 in given:
            result = 0
        elif step.name == "select_n" and given[0] is not None:
            result = given[1 + int(given[0])]
        elif step.name == "not" and given[0] is not None:
            result = not given[0]
        elif step.name == "or" and None not in given:
            result = given[0] or given[1]
        if result is not None:
            known[step.outputs[0]] = result
    return known


def neutral(kind: str, dtype: Any) -> Any:
    """What a statistic of no references is; for masked ones also the mask's value."""
    if kind in ("max", "min") and not jnp.issubdtype(dtype, jnp.floating):
        return jnp.iinfo(dtype).max if kind == "min" else jnp.iinfo(dtype).min
    values = {"any": False, "all": True, "min": np.inf, "max": -np.inf}
    values |= {"log_sum_exp": -np.inf, "largest": -np.inf}
    return values.get(kind, 0)


def _leaves_alone(step: _Step, flat: _Flat, known: Mapping[int, Any]) -> bool:
    """Whether an entry with these values changes nothing in a statistic."""
    value = known.get(step.inputs[-1])
    if len(step.inputs) > 1:
        return value is not None and not value
    return value is not None and value == neutral(
        _REDUCTIONS[step.name], flat.avals[step.outputs[0]].dtype
    )


def _signature(flat: _Flat) -> list[Any]:
    """All that a function does but for shapes; equal for two sizes of one loss."""
    return [
        (
            step.name,
            [str(step.params.get(name)) for name in (*_ALONG, "new_dtype", "y")],
            [i.tolist() for i in step.inputs if not isinstance(i, int)],
        )
        for step in flat.steps
        if step.name not in _SHAPES
    ]


def _by_pair(flat: _Flat) -> Callable[[_Step], bool]:
    """Whether an operation treats every pair, or every anchor, by itself."""

    def check(step: _Step) -> bool:
        shapes = [flat.shape(i) for i in step.inputs]
        results = [flat.shape(o) for o in step.outputs]
        if any(
            s.count(_REFERENCES) > 1 or s.count(_ANCHORS) > 1
            for s in (*shapes, *results)
        ):
            return False
        wide = any(_REFERENCES in s for s in shapes)
        if step.name in _SHAPES:
            sizes = {_REFERENCES} & {n for s in shapes for n in s}
            return all(sizes <= set(s) and (not wide or _single(s)) for s in results)
        if step.name == "iota":
            size = results[0][step.params["dimension"]]
            if _REFERENCES in results[0]:
                return size == _REFERENCES and _single(results[0])
            return size != _ANCHORS
        if _is_reduction(flat, step) or step.name in ("over_positives", "of_positive"):
            return True
        if step.name == "this_positive":
            return _single(results[0]) and _REFERENCES in results[0]
        if wide or any(_REFERENCES in s for s in results):
            return _is_elementwise(step) and all(
                _single(s) and _spreads(s, results[0]) for s in shapes
            )
        if not any(_ANCHORS in s for s in shapes) or _is_elementwise(step):
            return True
        along = [step.params[name] for name in _ALONG if name in step.params]
        axes = list(np.ravel(along[0])) if along else []
        if step.name == "gather":
            return results[0][:1] == (_ANCHORS,)
        return bool(along) and all(
            len(s) <= a or s[a] != _ANCHORS for s in shapes for a in axes
        )

    return check


def _spreads(shape: tuple[int, ...], result: tuple[int, ...]) -> bool:
    return not shape or all(a in (1, b) for a, b in zip(shape, result, strict=True))


def _statistic(eqn: jex.JaxprEqn) -> str | None:
    """The name of a statistic of `rankjax.rows`, if it is one."""
    called = eqn.params.get("call_jaxpr", eqn.params.get("jaxpr"))
    info = called.jaxpr.debug_info if isinstance(called, jex.ClosedJaxpr) else None
    if info is None or rows.__file__ not in (info.func_src_info or ""):
        return None
    return str(info.func_name) if info.func_name in _NAMES else None


def _single(shape: tuple[int, ...]) -> bool:
    return all(n in (1, _ANCHORS, _REFERENCES) for n in shape)


def _is_elementwise(step: _Step) -> bool:
    inner = step.params.get("call_jaxpr")
    if inner is None:
        return step.name in _ELEMENTWISE
    flat = _unfold(inner)
    return all(s.name in _SHAPES or _is_elementwise(s) for s in flat.steps)


def _is_reduction(flat: _Flat, step: _Step) -> bool:
    """Whether the operation reduces over references, and nothing else."""
    if step.name not in _REDUCTIONS:
        return False
    shape = flat.shape(step.inputs[0])
    axes = np.ravel(step.params.get("axes", len(shape) - 1))
    return _single(shape) and [shape[a] for a in axes] == [_REFERENCES]


def _positions(small: _Flat, large: _Flat) -> frozenset[int]:
    """Values that number the references."""
    numbers = [[s for s in f.steps if s.name == "iota"] for f in (small, large)]
    return frozenset(
        a.outputs[0]
        for a, b in zip(*numbers, strict=True)
        if _REFERENCES in large.shape(b.outputs[0])
    )


def _analyse(
    flat: _Flat, structure: Any, fields: tuple[str, ...], positions: frozenset[int]
) -> Program | None:
    """Splits the operations into those on pairs and those on anchors."""
    on_pairs, constant = set(positions), set[int]()
    each, after = set[int](), set[int]()
    differentiable, stage = set[int](), dict[int, int]()
    sends, results = dict[int, frozenset[int]](), dict[int, int]()
    for number, name in zip(flat.inputs, fields, strict=False):
        if not name.startswith("anchor_"):
            on_pairs.add(number)
        if name == "similarity":
            differentiable.add(number)
    for number in flat.inputs[len(fields) :]:
        if jnp.issubdtype(flat.avals[number].dtype, jnp.floating):
            differentiable.add(number)
    shared: dict[int, int] = {}
    looks = dict[int, frozenset[int]]()
    statistics: list[Statistic] = []
    sides = [flat.inputs[fields.index(name)] for name in ("positive", "negative")]
    without = [
        _without(flat, sides[0]),
        _without(flat, sides[1]),
        _without(flat, *sides),
    ]
    for step in flat.steps:
        inputs = [i for i in step.inputs if isinstance(i, int)]
        wide = any(i in on_pairs for i in inputs)
        depth = max((stage.get(i, 0) for i in inputs), default=0)
        smooth = step.name != "stop_gradient" and any(
            i in differentiable for i in inputs
        )
        origin = frozenset[int]().union(*(sends.get(i, ()) for i in inputs))
        if not inputs or all(i in constant for i in inputs):
            constant.update(step.outputs)
        if wide:
            for i in inputs:
                if i not in on_pairs | constant:
                    place = shared.setdefault(i, len(shared))
                    if i in differentiable:
                        looks[i] = frozenset([place])
        looks_at = frozenset[int]().union(*(looks.get(i, ()) for i in inputs))
        if any(i in after for i in inputs):
            after.update(step.outputs)
            if wide:
                return None
        if step.name == "this_positive":
            each.update(step.outputs)
        sums = step.name == "over_positives"
        looked_up = step.name == "of_positive"
        reduces = sums or looked_up or (wide and step.name in _REDUCTIONS)
        if any(i in each for i in inputs) and not sums:
            each.update(step.outputs)
        if reduces:
            kind = _REDUCTIONS.get(step.name, step.name)
            if sums:
                after.update(step.outputs)
            if kind in ("max", "min") and smooth:
                return None  # how it shares a gradient among ties is not ours
            smooth &= kind not in ("any", "all", "max", "min", "first_largest")
            depth += 1
            of_each = looked_up or (not sums and any(i in each for i in inputs))
            if kind == "log_sum_exp_of_both":
                if origin or inputs[-1] != sides[1]:
                    return None  # the two rows do not see the same negatives
                of_each = True
                each.update(step.outputs)
            among = all(statistics[i].each_positive for i in origin)
            if of_each and smooth and not among and not looked_up:
                return None  # a gradient from a positive's statistic to the anchor's
            if of_each and smooth and kind == "largest":
                return None  # its gradient goes to one entry of each positive's row
            if looked_up:
                each.update(step.outputs)
            statistics.append(
                Statistic(
                    kind=kind,
                    each_positive=of_each,
                    stage=depth,
                    differentiable=smooth,
                    needs_gradient_of=origin if smooth else frozenset(),
                    source=results[step.inputs[0]] if looked_up else None,
                    looks_at=looks_at if wide else frozenset(),
                    of_positives=_leaves_alone(step, flat, without[0]),
                    of_negatives=_leaves_alone(step, flat, without[1]),
                    dtype=flat.avals[step.outputs[0]].dtype,
                    size=flat.shape(step.outputs[0]) if sums else (),
                    step=step,
                )
            )
            results[step.outputs[0]] = len(statistics) - 1
            origin = frozenset([len(statistics) - 1])
        for output in step.outputs:
            stage[output] = depth
            if wide and not reduces:
                on_pairs.add(output)
            if smooth and jnp.issubdtype(flat.avals[output].dtype, jnp.floating):
                differentiable.add(output)
                sends[output] = origin
                if wide and not reduces:
                    looks[output] = looks_at
    if any(o in on_pairs for o in flat.outputs if isinstance(o, int)):
        return None
    return Program(
        tuple(statistics),
        structure,
        all(
            _leaves_alone(s.step, flat, without[2])
            for s in statistics
            if not s.kind.endswith("positive") and s.kind != "over_positives"
        ),
        flat,
        frozenset(on_pairs),
        frozenset(
            o for s in flat.steps if s.name == "this_positive" for o in s.outputs
        ),
        frozenset(constant),
        tuple(shared),
        positions,
        fields,
    )


def _read(values: Mapping[int, Any], number: Any) -> Any:
    return values[number] if isinstance(number, int) else number


def _run(step: _Step, values: dict[int, Any]) -> None:
    if step.name == "pvary":  # unless it is spread already
        (value,), (output,) = map(list, (step.inputs, step.outputs))
        values[output] = spread(_read(values, value), step.params["axes"])
        return
    primitive = step.eqn.primitive
    arguments = [_read(values, i) for i in step.inputs]
    found = primitive.get_bind_params(dict(step.params))
    # Before jax 0.10.1 the functions among the parameters came apart from the rest.
    functions, params = found if isinstance(found, tuple) else ((), found)
    results = primitive.bind(*functions, *arguments, **params)
    results = results if primitive.multiple_results else [results]
    values.update(zip(step.outputs, results, strict=True))
