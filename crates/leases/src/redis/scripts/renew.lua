-- Extends the lease, and restores it if it is missing and was not acquired since.
-- KEYS: lease, fence, waiter, the last primary, whether the last lease was not released as settled
-- ARGV: lease id, lifetime of the lease, lifetime of the fence, the lease's fence, owner,
--   the primary that the caller knows
-- Returns "1"; "w" and the offset or "-" of acquire.lua if another node waits; or "0" if another
-- owner holds it.
local primary = redis.call('HMGET', KEYS[4], 'run', 'number')
if not primary[1] or primary[1] .. '.' .. primary[2] ~= ARGV[6] then
  return redis.error_reply('NEWPRIMARY the server was replaced by another one, or lost its data')
end
local holder = redis.call('GET', KEYS[1])
if not holder then
  local fence = redis.call('GET', KEYS[2])
  if fence and fence ~= ARGV[4] then
    return '0'
  end
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[3])
  return '1'
end
if holder ~= ARGV[1] then
  return '0'
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[5], ARGV[3])
local waiter = redis.call('GET', KEYS[3])
local node, offset = string.match(waiter or '', '^(%x+) (%S+)$')
if node and node ~= ARGV[5] then
  return 'w' .. offset
end
return '1'
