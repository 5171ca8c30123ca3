"""Digest values inside the server by a script, so that equal values neither cross the network nor are parsed.

The keys are arguments, not KEYS: a node of a cluster then takes keys of many slots in one call, as
long as they are its own. (EVAL of a script without a shebang, on every version up to Valkey 9.1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis
import numpy as np

from helpers.elasticache.values import WHOLE_BYTES

# A call ends early once it has read so many bytes: one to two milliseconds.
CALL_BYTES = 256 * 1024
ABSENT = -2.0
DIGEST = "S40"

# Returns how many of the keys it took, their digests ('each') or the one digest of all ('all'), their
# expiries (ms since 1970; -1 without, -2 absent) and the places of those that are too large or of a
# type that it does not know.
#
# - Sets, and hashes that are not small, come in any order: sorted. Small ones are sorted by
#   insertion, which is quicker than building strings to sort.
# - A score is text: Redis 6.2 writes 0.10000000000000001 where Valkey writes 0.1, hence tonumber.
# - A HyperLogLog keeps its last estimate in bytes 8 to 15, which is not data.
# - cmsgpack writes lengths, so that ("ab", "c") and ("a", "bc") differ, and doubles to the last bit.
_SCRIPT = """
local call, pcall, pack, sha1hex = redis.call, redis.pcall, cmsgpack.pack, redis.sha1hex
local sort, byte, sub, tonumber, type = table.sort, string.byte, string.sub, tonumber, type
local read = {}

function read.string(key)
  local value = call('GETRANGE', key, 0, %(whole)d)
  local size = #value
  if size > %(whole)d then return end
  if byte(value, 1) == 72 and sub(value, 1, 4) == 'HYLL' and size >= 16 and byte(value, 5) < 2 then
    value = sub(value, 1, 8) .. sub(value, 17)
  end
  return value, size
end

local function small(key)
  local size = pcall('MEMORY', 'USAGE', key)
  return type(size) == 'number' and size <= %(whole)d and size
end

function read.hash(key)
  local size = small(key)
  if not size then return end
  local value = call('HGETALL', key)
  local count = #value
  if count <= 32 then
    for i = 3, count, 2 do
      local field, its, j = value[i], value[i + 1], i - 2
      while j > 0 and value[j] > field do
        value[j + 2], value[j + 3] = value[j], value[j + 1]
        j = j - 2
      end
      value[j + 2], value[j + 3] = field, its
    end
  else
    local fields = {}
    for i = 1, count, 2 do
      fields[(i + 1) / 2] = #value[i] .. ':' .. value[i] .. value[i + 1]
    end
    sort(fields)
    value = fields
  end
  return value, size
end

function read.list(key)
  local size = small(key)
  if not size then return end
  return call('LRANGE', key, 0, -1), size
end

function read.set(key)
  local size = small(key)
  if not size then return end
  local value = call('SMEMBERS', key)
  sort(value)
  return value, size
end

function read.zset(key)
  local size = small(key)
  if not size then return end
  local value = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 2, #value, 2 do value[i] = tonumber(value[i]) end
  return value, size
end

local function named(reply)
  local found = {}
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

function read.stream(key)
  local size = small(key)
  if not size then return end
  local value = {named(call('XINFO', 'STREAM', key))['last-generated-id'], call('XRANGE', key, '-', '+')}
  for _, group in ipairs(call('XINFO', 'GROUPS', key)) do
    group = named(group)
    local consumers = {}
    for i, each in ipairs(call('XINFO', 'CONSUMERS', key, group.name)) do consumers[i] = named(each).name end
    sort(consumers)
    local pending = {}
    if group.pending > 0 then pending = call('XPENDING', key, group.name, '-', '+', group.pending) end
    for _, entry in ipairs(pending) do entry[3] = 0 end
    value[#value + 1] = {group.name, group['last-delivered-id'], consumers, pending}
  end
  return value, size
end

local all, time = ARGV[1] == 'all', call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kinds, values, expiries, left, count, taken = {}, {}, {}, {}, 0, 0
for place = 2, #ARGV do
  local key = ARGV[place]
  local kind, expiry, value, size = call('TYPE', key).ok, call('PTTL', key), false, 0
  count = count + 1
  expiries[count] = expiry < 0 and expiry or now + expiry
  if kind ~= 'none' then
    local reader = read[kind]
    if reader then value, size = reader(key) end
    if not value then
      left[#left + 1] = count - 1
      value, size = false, 0
    end
  end
  if all then
    kinds[count], values[count] = kind, value
  else
    values[count] = sha1hex(pack(kind, value))
  end
  taken = taken + size
  if taken > %(call)d then break end
end
local digest = all and sha1hex(pack(kinds, values)) or table.concat(values)
return {count, digest, struct.pack('<' .. string.rep('d', count), unpack(expiries)), left}
""" % {"whole": WHOLE_BYTES, "call": CALL_BYTES}
_SCRIPT = "\n".join(line.strip() for line in _SCRIPT.strip().splitlines())


def digest_command(keys: Sequence[bytes], *, each: bool) -> bytes:
    """Return the packed command that asks for the digest of each of `keys`, or for one digest of all."""
    return hiredis.pack_command(("EVAL", _SCRIPT, 0, "each" if each else "all", *keys))


class Differing(NamedTuple):
    """What differs of the first `taken` keys by two servers' digests; those after them were not read.

    `places` are those of keys with another type, value, expiry or presence, `left` those of keys that were
    not digested; `absent` is the number of keys that neither server has. `places` is None when the
    one digest of all keys differs.
    """

    taken: int
    places: list[int] | None
    left: list[int]
    absent: int


def differing(ours: list[Any], theirs: list[Any], tolerance_ms: int, *, each: bool) -> Differing:
    """Return what two servers' replies to a `digest_command` say."""
    taken = min(ours[0], theirs[0])
    here, there = (np.frombuffer(reply[2], "<f8")[:taken] for reply in (ours, theirs))
    absent = np.count_nonzero((here == ABSENT) & (there == ABSENT))
    left = sorted({place for place in ours[3] + theirs[3] if place < taken})
    # No TTL is -1: its distance to any time is far.
    moved = np.abs(here - there) > tolerance_ms
    if each:
        one, other = (np.frombuffer(reply[1], DIGEST)[:taken] for reply in (ours, theirs))
        return Differing(taken, (moved | (one != other)).nonzero()[0].tolist(), left, absent)
    same = ours[:2] == theirs[:2]
    return Differing(taken, moved.nonzero()[0].tolist() if same else None, left, absent)
