-- Takes the lease, or says how long the one who has it may keep it.
-- KEYS: lease, fence, want, the primary that was used last
-- ARGV: owner, number of this call, lifetime of the lease, lifetime of the fence, a fence that the
--   next must exceed, the offset at which the request appends ("-": the holder is to yield in any case,
--   "": it is not requested to), channel, upload, lifetime of a hand-over,
--   lifetime of a want, time until nobody can have a lease that this server doesn't know of (ms),
--   the primary that the caller knows
-- Returns {1, fence}, or {0, milliseconds}.
local primary = redis.call('HMGET', KEYS[4], 'run', 'number')
if primary[1] and primary[1] .. '.' .. primary[2] ~= ARGV[12] then
  return redis.error_reply('NEWPRIMARY the server was replaced by another one since')
end
local owner, ask = ARGV[1], ARGV[6] ~= ''
local holder = redis.call('GET', KEYS[1])
local wanted = redis.call('GET', KEYS[3])
-- The node, without the offset.
wanted = wanted and string.match(wanted, '^%x+')
local left = 0

if holder then
  local who, number = string.match(holder, '^(%x+):(%d*)$')
  left = math.max(redis.call('PTTL', KEYS[1]), 0)
  if who ~= owner then
    if ask and number ~= '' then
      redis.call('PUBLISH', ARGV[7], 'ask ' .. holder .. ' ' .. ARGV[6] .. ' ' .. ARGV[8])
    end
  elseif number ~= '' and tonumber(number) > tonumber(ARGV[2]) then
    -- An old call, late: what this node has now is newer.
    return {0, left}
  elseif number ~= '' and wanted and wanted ~= owner then
    -- This node has given it up, and another waits: it is that one's turn.
    redis.call('SET', KEYS[1], wanted .. ':', 'PX', ARGV[9])
    redis.call('DEL', KEYS[3])
    redis.call('PUBLISH', ARGV[7], 'free ' .. ARGV[8])
    wanted, left = false, tonumber(ARGV[9])
  else
    -- Handed over to this node, or given up by it.
    holder = false
  end
elseif tonumber(ARGV[11]) > 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  return {0, tonumber(ARGV[11])}
elseif wanted then
  -- Whoever waited is not the first now, or is gone like the holder: the next to yield would do so
  -- for nobody. One that still waits asks again.
  redis.call('DEL', KEYS[3])
  wanted = false
end

if holder then
  if ask and (not wanted or wanted == owner) then
    redis.call('SET', KEYS[3], owner .. ' ' .. ARGV[6], 'PX', ARGV[10])
  end
  return {0, left}
end

redis.call('SET', KEYS[1], owner .. ':' .. ARGV[2], 'PX', ARGV[3])
if wanted == owner then
  redis.call('DEL', KEYS[3])
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  -- Nanoseconds, as text: Lua's numbers are too coarse for them.
  local now = redis.call('TIME')
  local first = now[1] .. string.format('%06d', tonumber(now[2])) .. '000'
  local floor = ARGV[5]
  if #floor > #first or (#floor == #first and floor > first) then
    first = floor
  end
  redis.call('SET', KEYS[2], first)
end
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {1, redis.call('GET', KEYS[2])}
