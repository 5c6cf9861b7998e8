-- Gives up the lease: to the node that waits, if one does.
-- KEYS: lease, want
-- ARGV: token, owner, lifetime of a hand-over, channel, upload
-- Returns 1, or 0 if the lease is another's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local wanted = redis.call('GET', KEYS[2])
wanted = wanted and string.match(wanted, '^%x+')
if wanted and wanted ~= ARGV[2] then
  redis.call('SET', KEYS[1], wanted .. ':', 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])
  redis.call('PUBLISH', ARGV[4], 'free ' .. ARGV[5])
else
  redis.call('DEL', KEYS[1], KEYS[2])
end
return 1
