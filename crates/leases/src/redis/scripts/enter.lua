-- Numbers the primaries: leases granted by an earlier one may be active although this one does not
-- know them. A server that knows no primary is new, or has lost its data: leases of a moment ago may be active.
-- KEYS: the last primary
-- ARGV: run id of this server, minimum time for which it has been the primary (ms), lifetime of a
--   lease (ms)
-- Returns {number, grace period in which leases of earlier primaries may be active (ms)}.
local run, primary_for, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known = redis.call('HMGET', KEYS[1], 'run', 'number', 'since')
local number, since = tonumber(known[2]) or 0, tonumber(known[3])
if known[1] ~= run or not since then
  if since then
    number, since = number + 1, now - primary_for
  else
    number, since = now, now
  end
  redis.call('HSET', KEYS[1], 'run', run, 'number', string.format('%.0f', number), 'since', string.format('%.0f', since))
end
return {number, math.min(ttl, math.max(0, since + ttl - now))}
