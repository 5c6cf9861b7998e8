-- Replaces a value if it is still the one that the caller has read.
-- KEYS: the value
-- ARGV: the value that was read ("": none), the new value
-- Returns 1, or 0 if there is another value.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
