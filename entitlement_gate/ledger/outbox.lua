-- What happens to the usage events of one bucket, in one atomic step.
--
-- KEYS: events, event_due, dead: all in one hash slot. ARGV[1]: JSON.

local EVENTS, DUE, DEAD = unpack(KEYS)
local asked = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function at(number)
  return string.format('%.0f', number)
end

local verbs = {}

function verbs.take()
  local taken = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', at(now), 'LIMIT', 0, asked.limit)) do
    local event = cjson.decode(redis.call('HGET', EVENTS, id))
    event.a = at(event.a + 1)
    taken[#taken + 1] = cjson.encode(event)
    redis.call('HSET', EVENTS, id, taken[#taken])
    redis.call('ZADD', DUE, at(now + asked.seconds), id)
  end
  return taken
end

function verbs.delivered()
  redis.call('ZREM', DUE, asked.id)
  redis.call('HDEL', EVENTS, asked.id)
end

function verbs.postpone()
  redis.call('ZADD', DUE, 'XX', at(now + asked.seconds), asked.id)
end

function verbs.bury()
  local event = redis.call('HGET', EVENTS, asked.id)
  if event then
    verbs.delivered()
    redis.call('HSET', DEAD, asked.id, cjson.encode({ e = event, w = asked.why }))
  end
end

function verbs.revive()
  local letter = redis.call('HGET', DEAD, asked.id)
  if letter then
    local event = cjson.decode(cjson.decode(letter).e)
    event.a = '0'
    redis.call('HDEL', DEAD, asked.id)
    redis.call('HSET', EVENTS, asked.id, cjson.encode(event))
    redis.call('ZADD', DUE, at(now), asked.id)
  end
end

-- How many are due, wait, and were set aside.
function verbs.count()
  return { redis.call('ZCOUNT', DUE, '-inf', at(now)), redis.call('ZCARD', DUE), redis.call('HLEN', DEAD) }
end

-- Some of those that were set aside; all where there are no more than that.
function verbs.dead()
  local letters, found = {}, redis.call('HSCAN', DEAD, '0', 'COUNT', asked.limit)[2]
  for index = 2, #found, 2 do letters[#letters + 1] = found[index] end
  return letters
end

return verbs[asked.verb]()
