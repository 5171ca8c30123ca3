"""The machine code that reads events, compiled by numba.

A line is read as JSON to its end, with nothing skipped unseen, so that a field given twice, a name with dots or escapes, an
array on a path and any fault are noticed: such a line is `UNSURE` and left to the exact matcher. Quotes are found 64 bytes at
a time, by vector instructions.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from helpers.eventbridge.reader import ABSENT, BEYOND_ASCII, PLAIN, STUCK, UNSURE

LONGEST_VALUE, LONGEST_LINE, DIGITS = 512, 50_000, 300  # within every limit of AWS's parser
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_WORDS = np.frombuffer(b"true\0false\0null\0", np.uint8)
KEEP = os.access(Path(__file__).parent, os.W_OK)  # compiled code, where there is a place for it
_compiled = numba.njit(cache=KEEP, error_model="numpy", boundscheck=False)


@intrinsic
def _item(typing: Any, data: Any, at: Any) -> Any:
    """`data[at]`, without asking whether `at` counts from the end."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load(builder.gep(array.data, [arguments[1]]))

    return data.dtype(data, numba.int64), load


@intrinsic
def _view(typing: Any, array: Any) -> Any:
    """The same array, whose references nobody counts: counting costs more than reading. The caller keeps it."""

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        found.meminfo, found.parent = (ir.Constant(one.type, None) for one in (found.meminfo, found.parent))
        return found._getvalue()

    return array(array), view


@intrinsic
def _marks(typing: Any, data: Any, at: Any) -> Any:
    """Of 64 bytes from `at` on, a bit each: (quotes; what is no plain part of a string)."""

    def marks(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.IntType(8), 64)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        found = builder.load(place, align=1)

        def splat(value: int) -> Any:
            return ir.Constant(vector, [value] * 64)

        quotes = builder.icmp_unsigned("==", found, splat(34))
        odd = builder.or_(builder.icmp_signed("<", found, splat(32)), builder.icmp_unsigned("==", found, splat(92)))
        words = [builder.bitcast(one, ir.IntType(64)) for one in (quotes, odd)]
        return context.make_tuple(builder, signature.return_type, words)

    return numba.types.UniTuple(numba.uint64, 2)(data, numba.int64), marks


@intrinsic
def _lowest(typing: Any, word: Any) -> Any:
    """The place of the lowest bit that is set."""

    def count(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return numba.int64(numba.uint64), count


@_compiled
def _next(marks, at):  # type: ignore[no-untyped-def]
    """The place of the next mark from `at` on."""
    word = _item(marks, at >> 6) & (_ALL << np.uint64(at & 63))
    at >>= 6
    while word == 0:
        at += 1
        word = _item(marks, at)
    return (at << 6) + _lowest(word)


@_compiled
def _odd_string(data, at):  # type: ignore[no-untyped-def]
    """Where a string with escapes or bytes beyond ASCII closes (-1: it is faulty), read from the first of them on, whether it has escapes, and bytes beyond ASCII."""
    escaped = high = False
    while True:
        char = _item(data, at)
        if char == 34:
            return at, escaped, high
        if char < 32:
            return -1, escaped, high
        if char == 92:
            escaped = True
            letter = _item(data, at + 1)
            if letter == 117:  # u
                for step in range(at + 2, at + 6):
                    digit = _item(data, step)
                    if not (48 <= digit <= 57 or 65 <= digit <= 70 or 97 <= digit <= 102):
                        return -1, True, high
                at += 4
            elif letter not in (34, 92, 47, 98, 102, 110, 114, 116):
                return -1, True, high
            at += 1
        high |= char > 127
        at += 1


@_compiled
def _digits(data, at):  # type: ignore[no-untyped-def]
    """Behind the digits."""
    while 48 <= _item(data, at) <= 57:
        at += 1
    return at


@_compiled
def _number(data, at):  # type: ignore[no-untyped-def]
    """Behind a number, or -1."""
    start = at
    if _item(data, at) == 45:
        at += 1
    whole = at
    at = _digits(data, at)
    if at == whole or (_item(data, whole) == 48 and at > whole + 1):
        return -1
    if _item(data, at) == 46:
        point = at + 1
        at = _digits(data, point)
        if at == point:
            return -1
    if _item(data, at) in (69, 101):
        at += 1
        if _item(data, at) in (43, 45):
            at += 1
        power = at
        at = _digits(data, at)
        if at == power:
            return -1
    return at if at - start <= DIGITS else -1


@_compiled
def _word(data, at):  # type: ignore[no-untyped-def]
    """Behind `true`, `false` or `null`, or -1."""
    start = 0 if _item(data, at) == 116 else 5 if _item(data, at) == 102 else 11
    while _WORDS[start]:
        if _item(data, at) != _WORDS[start]:
            return -1
        at, start = at + 1, start + 1
    return at


@_compiled
def _space(data, at):  # type: ignore[no-untyped-def]
    """Behind the white space."""
    while _item(data, at) == 32 or _item(data, at) == 9 or _item(data, at) == 13:
        at += 1
    return at


@intrinsic
def _eight(typing: Any, data: Any, at: Any) -> Any:
    """Eight bytes from `at` on."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load(builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer()), align=1)

    return numba.uint64(data, numba.int64), load


@_compiled
def _same(data, start, other, at, length):  # type: ignore[no-untyped-def]
    if length < 8:
        for step in range(length):
            if _item(data, start + step) != _item(other, at + step):
                return False
        return True
    for step in range(0, length - 8, 8):
        if _eight(data, start + step) != _eight(other, at + step):
            return False
    return _eight(data, start + length - 8) == _eight(other, at + length - 8)


@_compiled
def _child(data, start, end, node, names, firsts, counts, offsets):  # type: ignore[no-untyped-def]
    """The node of a name below a node: -1 where there is none, -2 where the name goes on behind a dot."""
    length = end - start
    for child in range(firsts[node], firsts[node] + counts[node]):
        size = offsets[child + 1] - offsets[child]
        if (length == size or (length > size and _item(data, start + size) == 46)) and _same(data, start, names, offsets[child], size):
            return child if length == size else -2
    return -1


@_compiled
def _value(data, start, end, slots, texts, bounds, used):  # type: ignore[no-untyped-def]
    """The number of a value, a new one where it has not been met; -1 where there is no room for it."""
    length = end - start
    mixed = np.uint64(length)
    at = start
    while at + 8 <= end:
        mixed = (mixed ^ _eight(data, at)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        at += 8
    word = np.uint64(0)
    while at < end:
        word = (word << np.uint64(8)) | np.uint64(_item(data, at))
        at += 1
    mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
    mask = len(slots) - 1
    slot = np.int64(mixed >> np.uint64(32)) & mask
    while slots[slot]:
        number = slots[slot]
        if bounds[number] - bounds[number - 1] == length and _same(data, start, texts, bounds[number - 1], length):
            return number
        slot = (slot + 1) & mask
    number = used[0]
    if number >= len(bounds) or length > LONGEST_VALUE or bounds[number - 1] + length > len(texts):
        return -1
    texts[bounds[number - 1] : bounds[number - 1] + length] = data[start:end]
    bounds[number] = bounds[number - 1] + length
    slots[slot] = number
    used[0] += 1
    return number


@numba.njit(cache=KEEP, error_model="numpy", forceinline=True)
def _event(data, quotes, odd, at, names, firsts, counts, offsets, leaves, slots, texts, bounds, used, last, row, nodes, seen):  # type: ignore[no-untyped-def]
    """Read the object that begins at `at`. Returns where it ends (-1 where it is not settled) and whether bytes are beyond ASCII.

    `nodes` are those of the containers that are open: a node of the trie, -1 of an object beside the paths, -2 of an array.
    """
    start, depth, first, beyond = at, 0, True, False
    nodes[0] = 0
    seen[:] = 0
    at += 1
    strange = _next(odd, at)
    while True:
        at = _space(data, at)
        char, node = _item(data, at), -1
        if nodes[depth] == -2:
            closes = first and char == 93
        else:
            closes = first and char == 125
            if not closes:
                if char != 34:
                    return -1, beyond
                end, escaped, high = _next(quotes, at + 1), False, False
                if strange <= at:
                    strange = _next(odd, at)
                if strange < end:
                    end, escaped, high = _odd_string(data, strange)
                if end < 0:
                    return -1, beyond
                beyond |= high
                if nodes[depth] >= 0:
                    if escaped:
                        return -1, beyond
                    node = _child(data, at + 1, end, nodes[depth], names, firsts, counts, offsets)
                    if node >= 0:
                        if seen[node]:
                            return -1, beyond
                        seen[node] = 1
                    elif node == -2:
                        return -1, beyond
                at = _space(data, end + 1)
                if _item(data, at) != 58:
                    return -1, beyond
                at = _space(data, at + 1)
                char = _item(data, at)
        if not closes:
            if char == 34:
                end = _next(quotes, at + 1) + 1
                if strange <= at:
                    strange = _next(odd, at)
                if strange < end:
                    end, _, high = _odd_string(data, strange)
                    end += end >= 0
                    beyond |= high
            elif char == 123 or char == 91:
                if depth + 1 >= len(nodes) or (node >= 0 and (char == 91 or leaves[node] >= 0)):
                    return -1, beyond
                depth += 1
                nodes[depth] = node if char == 123 else -2
                first = True
                at += 1
                continue
            elif char == 45 or 48 <= char <= 57:
                end = _number(data, at)
            else:
                end = _word(data, at)
            if end < 0:
                return -1, beyond
            if node >= 0 and leaves[node] >= 0:
                path = leaves[node]
                number = last[path]
                if not (number > 0 and bounds[number] - bounds[number - 1] == end - at and _same(data, at, texts, bounds[number - 1], end - at)):
                    number = _value(data, at, end, slots, texts, bounds, used)
                    if number < 0:
                        return -1, beyond
                    last[path] = number
                row[path] = number
            at = end
        else:
            at += 1
            depth -= 1
        while depth >= 0:  # behind a value: what follows, or what is closed
            at = _space(data, at)
            char = _item(data, at)
            if char == 44:
                at += 1
                break
            if char != (93 if nodes[depth] == -2 else 125):
                return -1, beyond
            at += 1
            depth -= 1
        if depth < 0:
            at = _space(data, at)
            return (at if _item(data, at) == 10 and at - start <= LONGEST_LINE else -1), beyond
        first = False


@_compiled
def read(data, tail, names, firsts, counts, offsets, leaves, slots, texts, bounds, used, last, quotes, odd, nodes, seen, rows, lines, states):  # type: ignore[no-untyped-def]
    """The number of lines that are not empty; -1 where there are more than rows."""
    names, firsts, counts, offsets, leaves = _view(names), _view(firsts), _view(counts), _view(offsets), _view(leaves)
    slots, texts, bounds, used, last = _view(slots), _view(texts), _view(bounds), _view(used), _view(last)
    rows = _view(rows)
    data, tail = _view(data), _view(tail)
    size = len(data)
    quotes, odd, nodes, seen = _view(quotes), _view(odd), _view(nodes), _view(seen)
    for word in range(size // 64):
        quotes[word], odd[word] = _marks(data, word * 64)
    quotes[size // 64], odd[size // 64] = _marks(tail, 0)
    quotes[size // 64 + 1] = odd[size // 64 + 1] = _ALL
    count = at = 0
    while at < size:
        start = at
        at = _space(data, at)
        if _item(data, at) == 10:
            at += 1
            continue
        if count == len(rows):
            return -1
        rows[count] = ABSENT
        end, beyond = -1, False
        if _item(data, at) == 123:
            end, beyond = _event(data, quotes, odd, at, names, firsts, counts, offsets, leaves, slots, texts, bounds, used, last, rows[count], nodes, seen)
        states[count] = UNSURE if end < 0 else BEYOND_ASCII if beyond else PLAIN
        if end < 0:
            end = at
            while _item(data, end) != 10:
                end += 1
        lines[count] = start, end
        count += 1
        at = end + 1
    return count


@_compiled
def _slot(keys, node, value):  # type: ignore[no-untyped-def]
    """Where a step is, or would be, in the table, and its key, which is never 0."""
    key = (np.int64(node) << 32) | value
    mask = len(keys) - 1
    slot = ((key * 0x9E3779B1) ^ (key >> 29)) & mask
    while keys[slot] and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot, key


@_compiled
def learn(keys, thens, steps):  # type: ignore[no-untyped-def]
    for at in range(len(steps)):
        slot, key = _slot(keys, steps[at, 0], steps[at, 1])
        keys[slot], thens[slot] = key, steps[at, 2]


@_compiled
def walk(keys, thens, rows, states, places, codes, nodes):  # type: ignore[no-untyped-def]
    for line in range(len(rows)):
        if states[line] == UNSURE:
            continue
        node = nodes[line]
        while node > 0:
            slot, key = _slot(keys, node, rows[line, places[node]])
            if keys[slot] != key:
                break
            node = thens[slot]
        nodes[line] = node
        codes[line] = STUCK if node > 0 else -node
