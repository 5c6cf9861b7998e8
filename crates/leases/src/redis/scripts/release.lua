-- Releases the lease, or reserves it for the node that waits.
-- KEYS: lease, waiter, whether the last lease was not released as settled
-- ARGV: lease id, owner, handoff window (ms), channel, upload, 1 if it is settled
-- Returns 1, or 0 if another owner holds it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[6] == '1' then
  redis.call('DEL', KEYS[3])
end
local waiter = redis.call('GET', KEYS[2])
waiter = waiter and string.match(waiter, '^%x+')
if waiter and waiter ~= ARGV[2] then
  redis.call('SET', KEYS[1], waiter .. ':', 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])
  -- A node of an earlier release listens to the common channel alone.
  if redis.call('PUBLISH', ARGV[4] .. ':' .. waiter, 'free ' .. ARGV[5]) == 0 then
    redis.call('PUBLISH', ARGV[4], 'free ' .. ARGV[5])
  end
else
  redis.call('DEL', KEYS[1], KEYS[2])
end
return 1
