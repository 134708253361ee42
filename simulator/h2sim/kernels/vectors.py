"""Two operations that numba has no words for, given to LLVM directly: trailing zeros, and sums of rows in registers.

LLVM lowers a vector of VECTOR_BYTES to what the processor has, be it AVX-512, AVX2, SSE or NEON. Neither operation
checks bounds, whatever NUMBA_BOUNDSCHECK says: each names what its caller must hold. Under NUMBA_DISABLE_JIT=1 neither
can be called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from h2sim.arrays import Array, Ints

VECTOR_BYTES = 64
MOST_PES, MOST_VECTORS = 4, 4  # side by side in registers
_I64 = ir.IntType(64)
_typed_intrinsic: Any = intrinsic


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """The number of zero bits below the lowest set bit of a uint64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


trailing_zeros: Callable[[Any], Any] = _typed_intrinsic(_trailing_zeros)


def _sums(n_pes: int, n_vectors: int) -> Callable[[Array, Ints, int, int, int, int, Array], None]:
    """Makes take_sums for n_pes PEs and n_vectors vectors.

    take_sums(rows, offsets, first, step, rounds, at, largest): for each of n_pes PEs p, the sum over j below `rounds`
    of the row that begins at byte offsets[first + p + j * step] of `rows`, and in `largest` the larger of that sum and
    of what is there. It does so for VECTOR_BYTES * n_vectors bytes of a row and of `largest`, from byte `at` on.
    rows and largest: unsigned integers of one dtype, contiguous; offsets: int64. rounds is at least 1. The caller holds
    that every offset names a row that lies within `rows` and that a sum fits the dtype.
    """

    def take_sums(
        typing_context: Any, rows: Any, offsets: Any, first: Any, step: Any, rounds: Any, at: Any, largest: Any
    ) -> Any:
        bits = rows.dtype.bitwidth
        vector = ir.VectorType(ir.IntType(bits), VECTOR_BYTES * 8 // bits)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _Sums(context, builder, signature, arguments, vector, bits // 8).generate(n_pes, n_vectors)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(rows, offsets, i64, i64, i64, i64, largest), generate

    made: Callable[[Array, Ints, int, int, int, int, Array], None] = _typed_intrinsic(take_sums)
    return made


class _Sums:
    """One call of take_sums, as LLVM's instructions."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Any, vector: ir.VectorType, align: int
    ) -> None:
        self.builder, self.vector, self.align = builder, vector, align
        rows, offsets, self.first, self.step, self.rounds, self.at, largest = arguments
        self.rows, self.offsets, self.largest = (
            builder.bitcast(context.make_array(kind)(context, builder, value).data, ir.IntType(8).as_pointer())
            for kind, value in zip(
                (signature.args[0], signature.args[1], signature.args[6]), (rows, offsets, largest), strict=True
            )
        )

    def generate(self, n_pes: int, n_vectors: int) -> None:
        """A loop over `rounds` with all sums in registers, then the larger values to memory."""
        builder = self.builder
        before = builder.basic_block
        loop, after = builder.append_basic_block("rounds"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        done, place = builder.phi(_I64), builder.phi(_I64)
        sums = [[builder.phi(self.vector) for _ in range(n_vectors)] for _ in range(n_pes)]
        more = [self._added(builder.add(place, _constant(p)), sums[p]) for p in range(n_pes)]
        next_done, next_place = builder.add(done, _constant(1)), builder.add(place, self.step)
        for value, start, following in (
            (done, _constant(0), next_done),
            (place, self.first, next_place),
            *((sums[p][v], ir.Constant(self.vector, None), more[p][v]) for p in range(n_pes) for v in range(n_vectors)),
        ):
            value.add_incoming(start, before)
            value.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", next_done, self.rounds), loop, after)
        builder.position_at_end(after)
        for v in range(n_vectors):
            self._take([more[p][v] for p in range(n_pes)], v)

    def _added(self, place: Any, sums: list[Any]) -> list[Any]:
        """The sums with the row added that the offset at `place` names."""
        builder = self.builder
        offset = builder.load(self._pointer(self.offsets, builder.mul(place, _constant(8)), _I64), align=8)
        row = builder.add(offset, self.at)
        return [builder.add(total, self._load(self.rows, row, v)) for v, total in enumerate(sums)]

    def _take(self, sums: list[Any], v: int) -> None:
        """largest = max(largest, sums), for one vector."""
        builder = self.builder
        most = self._load(self.largest, self.at, v)
        for total in sums:
            most = builder.select(builder.icmp_unsigned(">", total, most), total, most)
        place = builder.add(self.at, _constant(VECTOR_BYTES * v))
        builder.store(most, self._pointer(self.largest, place, self.vector), align=self.align)

    def _load(self, base: Any, place: Any, v: int) -> Any:
        place = self.builder.add(place, _constant(VECTOR_BYTES * v))
        return self.builder.load(self._pointer(base, place, self.vector), align=self.align)

    def _pointer(self, base: Any, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [place]), kind.as_pointer())


def _constant(value: int) -> Any:
    return ir.Constant(_I64, value)


take_sums_4x4, take_sums_4x1 = _sums(MOST_PES, MOST_VECTORS), _sums(MOST_PES, 1)
take_sums_1x4, take_sums_1x1 = _sums(1, MOST_VECTORS), _sums(1, 1)
