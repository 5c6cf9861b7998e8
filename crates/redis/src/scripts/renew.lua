-- Prolongs the lease, and puts it back where it is missing and nobody else had it since.
-- KEYS: lease, fence, want, the primary that was used last
-- ARGV: token, lifetime of the lease, lifetime of the fence, the lease's fence, owner,
--   the primary that the caller knows
-- Returns "1", the offset or "-" of acquire.lua with a "w" in front if another node waits for it, or
-- "0" if it is another's.
local primary = redis.call('HMGET', KEYS[4], 'run', 'number')
if primary[1] and primary[1] .. '.' .. primary[2] ~= ARGV[6] then
  return redis.error_reply('NEWPRIMARY the server was replaced by another one since')
end
local holder = redis.call('GET', KEYS[1])
if not holder then
  local newest = redis.call('GET', KEYS[2])
  if newest and newest ~= ARGV[4] then
    return '0'
  end
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return '1'
end
if holder ~= ARGV[1] then
  return '0'
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local wanted = redis.call('GET', KEYS[3])
local node, offset = string.match(wanted or '', '^(%x+) (%S+)$')
if node and node ~= ARGV[5] then
  return 'w' .. offset
end
return '1'
