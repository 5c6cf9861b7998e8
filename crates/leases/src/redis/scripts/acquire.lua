-- Acquires the lease, or returns its remaining lifetime.
-- KEYS: lease, fence, waiter, the last primary, whether the last lease was not released as settled
-- ARGV: owner, number of this acquisition, lifetime of the lease, lifetime of the fence, minimum of
--   the fence, offset at which the request appends ("-": it does not append, "": do not make the
--   holder yield), channel, upload, handoff window, lifetime of the waiter, grace period in which
--   leases of earlier primaries may be active (ms), the primary that the caller knows
-- Returns {1, fence, 1 if the last holder released it as settled or is this node}, or {0, milliseconds, 0}.
local primary = redis.call('HMGET', KEYS[4], 'run', 'number')
if not primary[1] or primary[1] .. '.' .. primary[2] ~= ARGV[12] then
  return redis.error_reply('NEWPRIMARY the server was replaced by another one, or lost its data')
end
-- A node of an earlier release listens to the common channel alone.
local function publish(node, message)
  if redis.call('PUBLISH', ARGV[7] .. ':' .. node, message) == 0 then
    redis.call('PUBLISH', ARGV[7], message)
  end
end
local owner, requests_yield = ARGV[1], ARGV[6] ~= ''
local holder = redis.call('GET', KEYS[1])
local waiter = redis.call('GET', KEYS[3])
-- The node, without the offset.
waiter = waiter and string.match(waiter, '^%x+')
local left, is_own = 0, false

if holder then
  local node, number = string.match(holder, '^(%x+):(%d*)$')
  left = math.max(redis.call('PTTL', KEYS[1]), 0)
  if node ~= owner then
    if requests_yield and number ~= '' then
      publish(node, 'yield ' .. holder .. ' ' .. ARGV[6] .. ' ' .. ARGV[8])
    end
  elseif number ~= '' and tonumber(number) > tonumber(ARGV[2]) then
    -- A delayed call: the node holds a newer lease.
    return {0, left, 0}
  elseif number ~= '' and waiter and waiter ~= owner then
    -- This node has released its lease, and another one waits: reserve it for that one.
    redis.call('SET', KEYS[1], waiter .. ':', 'PX', ARGV[9])
    redis.call('DEL', KEYS[3])
    publish(waiter, 'free ' .. ARGV[8])
    waiter, left = false, tonumber(ARGV[9])
  else
    -- Reserved for this node, or released by it.
    is_own = number ~= ''
    holder = false
  end
elseif tonumber(ARGV[11]) > 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  return {0, tonumber(ARGV[11]), 0}
elseif waiter then
  -- The waiter of an expired lease may be dead like its holder. A live one repeats its request.
  redis.call('DEL', KEYS[3])
  waiter = false
end

if holder then
  if requests_yield and (not waiter or waiter == owner) then
    redis.call('SET', KEYS[3], owner .. ' ' .. ARGV[6], 'PX', ARGV[10])
  end
  return {0, left, 0}
end

local settled = 1
if not is_own and (redis.call('EXISTS', KEYS[5]) == 1 or redis.call('EXISTS', KEYS[2]) == 0) then
  settled = 0
end
redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])
redis.call('SET', KEYS[1], owner .. ':' .. ARGV[2], 'PX', ARGV[3])
if waiter == owner then
  redis.call('DEL', KEYS[3])
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  -- Nanoseconds as text: Lua's numbers are not precise enough.
  local now = redis.call('TIME')
  local first = now[1] .. string.format('%06d', tonumber(now[2])) .. '000'
  local min_fence = ARGV[5]
  if #min_fence > #first or (#min_fence == #first and min_fence > first) then
    first = min_fence
  end
  redis.call('SET', KEYS[2], first)
end
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {1, redis.call('GET', KEYS[2]), settled}
