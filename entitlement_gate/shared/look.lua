-- Reads what is shared of a customer and, where asked to, takes the lease on the next fetch, in one step.
-- KEYS: generation, record, lease. ARGV: token ("" takes no lease), milliseconds of the lease, "missing" (take it only
-- where there is no record) or "always".
local generation = redis.call('GET', KEYS[1]) or ''
local record = redis.call('HGET', KEYS[2], 'record') or ''
local taken = 0
if ARGV[1] ~= '' and (ARGV[3] == 'always' or record == '') then
  if redis.call('SET', KEYS[3], ARGV[1], 'NX', 'PX', ARGV[2]) then
    taken = 1
  end
end
local now = redis.call('TIME')
return {now[1] * 1000000 + now[2], generation, record, taken}
