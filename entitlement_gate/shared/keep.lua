-- Returns the lease and keeps a record, unless the customer was invalidated since that fetch began.
-- KEYS: generation, record, lease. ARGV: token, generation of the fetch, when it began (microseconds), the record (""
-- keeps nothing), milliseconds that it is kept. Returns 0 where the fetch was overtaken.
if redis.call('GET', KEYS[3]) == ARGV[1] then
  redis.call('DEL', KEYS[3])
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[4] == '' then
  return 1
end
local now = redis.call('TIME')
local held = tonumber(redis.call('HGET', KEYS[2], 'begun') or 0)
-- A later fetch that was faster stays; one from the future was stamped by a server whose clock was ahead.
if held > tonumber(ARGV[3]) and held <= now[1] * 1000000 + now[2] then
  return 1
end
redis.call('HSET', KEYS[2], 'begun', ARGV[3], 'record', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
