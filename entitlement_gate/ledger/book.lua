-- One customer's book, opened and written back. Every script begins with this part; those of its verb follow.
--
-- KEYS: meta, rows, holds, due; where it is about a key, what is kept of that; and where it commits, events, event_due,
-- dead: of one bucket, in one hash slot.
-- ARGV: what the verb is asked with, in JSON; the epoch and the count of writes that are known; how long keys are
-- remembered, and lone ones.
-- What is held, or ran out, is in holds, and in due by when that changes. What was committed or released is kept by
-- itself, and Redis forgets it: nobody has to come back for that. Tallies, epochs and events have no end here.
-- Lua computes with doubles: each sum is checked to be exact before anything is written, and everything is written at
-- the end or not at all. `cjson` writes 14 digits, so that every number it writes is text.

local META, ROWS, HOLDS, DUE, KEPT, EVENTS, EVENT_DUE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local DEAD = KEYS[8]
local EPOCH, SEQ, RETENTION, LONE_RETENTION = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local MOST = 9007199254740992
local CLOCK_SKEW = 1000000 -- microseconds by which the clocks of a fleet may differ
-- A tally: six doubles.
local BASELINE, COMMITTED, HELD, SEEN, REFUNDED, TICKET = 1, 2, 3, 4, 5, 6
local SIX = '<dddddd'
-- A row as billing tells it: its id, remaining, used, and the field that its tally is kept in.
local ID, REMAINING, USED, FIELD = 1, 2, 3, 4
-- A record. Of wants, four each: entitlement id, quantity, slug, field. Of shares, three: entitlement id, row, amount.
local STATE, EXPIRES, UNTIL, IS_OVERAGE, IS_LATE, WANTS, SHARES, OWNER, IS_LONE, PURPOSE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- Among the rows: nothing of this customer runs out before. Verbs lower it, a sweep sets it right.
local BOUND = 'due'
local ALL_AT_ONCE = 1000 -- what `unpack` surely takes
local SWEPT_AT_ONCE = 1000 -- some 10 ms: more would keep Redis from everybody else

local asked = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local meta = redis.call('HMGET', META, 'epoch', 'seq')
if not meta[1] then return 'missing' end
if EPOCH ~= meta[1] and EPOCH ~= '' then
  return redis.call('HEXISTS', META, 'accepted') == 1 and 'accepted' or 'other'
end
if meta[2] + 0 < SEQ + 0 then return 'behind' end

local tallies, changed = {}, {}
local records, origins, touched, written = {}, {}, {}, {}
local events
local bound, is_swept, is_bound_new

local function fail(code)
  error({ code = code })
end

local function text(number)
  return string.format('%d', number)
end

local function field_of(entitlement, row)
  return #entitlement .. ':' .. entitlement .. row
end

local function tally_of(field)
  local tally = tallies[field]
  if tally == nil then
    local value = redis.call('HGET', ROWS, field)
    tally = value and { struct.unpack(SIX, value) } or false
    tallies[field] = tally
  end
  return tally
end

local function add(shares, column, sign)
  for index = 1, #shares, 3 do
    local field = field_of(shares[index], shares[index + 1])
    local tally = tally_of(field) or { 0, 0, 0, 0, 0, 0 }
    tally[column] = tally[column] + sign * shares[index + 2]
    tallies[field], changed[field] = tally, true
  end
end

local function keep(key, record)
  records[key], touched[key] = record, true
end

local function settle(key, record, state)
  record[STATE], record[UNTIL] = state, text(now + (record[IS_LONE] and LONE_RETENTION or RETENTION))
  keep(key, record)
end

-- What a key stands for, once its time has taken effect.
local function record_of(key)
  local record = records[key]
  if record == nil then
    local value, origin = redis.call('HGET', HOLDS, key), HOLDS
    if not value and key == asked.key then value, origin = redis.call('GET', KEPT), KEPT end
    record = value and cjson.decode(value) or false
    records[key], origins[key] = record, value and origin
  end
  if record and record[UNTIL] + 0 <= now then
    if record[STATE] == 'held' then
      add(record[SHARES], HELD, -1)
      settle(key, record, 'expired')
    else
      records[key], touched[key] = false, true
    end
  end
  return records[key]
end

-- Read the tallies that a verb is about, and let time take effect.
local function open(fields)
  for first = 1, #fields + 1, ALL_AT_ONCE do
    local last = math.min(#fields, first + ALL_AT_ONCE - 1)
    local values = redis.call('HMGET', ROWS, BOUND, unpack(fields, first, last))
    bound = values[1] and values[1] + 0
    for index = first, last do
      local value = values[index - first + 2]
      tallies[fields[index]] = value and { struct.unpack(SIX, value) } or false
    end
  end
  if bound and bound <= now then
    is_swept = true
    local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, SWEPT_AT_ONCE)
    for _, key in ipairs(keys) do
      if not record_of(key) then origins[key], touched[key] = HOLDS, true end
    end
    if #keys == SWEPT_AT_ONCE then fail('more') end -- before all are given back nobody knows what is available
  end
end

-- What is available, and what news from billing changes: the rule of `balances.py` once more.

-- billing's use of a row since its baseline, less what was committed here; negative is uncaught
local function surplus_of(used, tally)
  local caught = used - tally[BASELINE]
  local back = caught + tally[REFUNDED]
  local surplus = back - tally[COMMITTED]
  if math.max(caught, back, surplus) > MOST or math.min(caught, back, surplus) < -MOST then fail('range') end
  return surplus
end

local function burden(rows, first, last)
  local held, surplus = 0, 0
  for index = first, last do
    local row = rows[index]
    local tally = tallies[row[FIELD]]
    if tally then
      held = held + tally[HELD]
      surplus = surplus + surplus_of(row[USED], tally)
      if held > MOST or surplus > MOST or surplus < -MOST then fail('range') end
    end
  end
  return held + math.max(0, -surplus)
end

-- When a fetch began, by clocks that may differ a little; now, where that would be in the future.
local function possible(ticket)
  return ticket > now + CLOCK_SKEW and now or ticket
end

-- Learn newer rows, of those whose tallies were read; one of the future was written while a clock was ahead.
local function adopt(rows, ticket)
  local newer, is_charged = nil, false
  for _, row in ipairs(rows) do
    local tally = tallies[row[FIELD]]
    if tally then
      is_charged = is_charged or tally[COMMITTED] ~= 0
      if tally[TICKET] < ticket or tally[TICKET] > now + CLOCK_SKEW then
        newer = newer or {}
        newer[#newer + 1] = row
      end
    end
  end
  if not newer then return end
  for _, row in ipairs(newer) do
    local tally, used = tallies[row[FIELD]], row[USED]
    tally[REFUNDED] = tally[REFUNDED] + math.max(0, tally[SEEN] - used)
    tally[SEEN], tally[TICKET] = used, ticket
    if not is_charged then tally[BASELINE], tally[REFUNDED] = used, 0 end
    changed[row[FIELD]] = true
  end
  if not is_charged then return end
  local surplus = 0 -- of what was given back, what billing takes back
  for _, row in ipairs(rows) do
    local tally = tallies[row[FIELD]]
    if tally then surplus = surplus + surplus_of(tally[SEEN], tally) end
    if surplus > MOST or surplus < -MOST then fail('range') end
  end
  for _, row in ipairs(newer) do
    local tally = tallies[row[FIELD]]
    local taken = math.max(0, math.min(tally[REFUNDED], surplus))
    tally[REFUNDED] = tally[REFUNDED] - taken
    surplus = surplus - taken
  end
end

-- The rows to set and to drop: checked before anything is written.
local function rendered()
  local set, dropped = {}, nil
  for field in pairs(changed) do
    local tally = tallies[field]
    if tally then
      for column = 1, 6 do
        if tally[column] > MOST or tally[column] < -MOST then fail('range') end
      end
      local at = #set
      set[at + 1], set[at + 2] = field, struct.pack(SIX, unpack(tally, 1, 6))
    else
      dropped = dropped or {}
      dropped[#dropped + 1] = field
    end
  end
  return set, dropped
end

local function write(set, dropped)
  for key in pairs(touched) do
    local record, is_kept = records[key], false
    if record then
      local value, until_ = written[record] or cjson.encode(record), record[UNTIL] + 0
      is_kept = record[STATE] == 'committed' or record[STATE] == 'released'
      if is_kept then
        redis.call('SET', KEPT, value, 'PX', text((until_ - now) / 1000))
      else
        redis.call('HSET', HOLDS, key, value)
        redis.call('ZADD', DUE, record[UNTIL], key)
        if not bound or until_ < bound then bound, is_bound_new = until_, true end
      end
    end
    if origins[key] == KEPT and not is_kept then
      redis.call('DEL', KEPT)
    elseif origins[key] == HOLDS and (is_kept or not record) then
      redis.call('HDEL', HOLDS, key)
      redis.call('ZREM', DUE, key)
    end
  end
  for _, event in ipairs(events or {}) do
    local id = event.c .. '|' .. event.k
    if redis.call('HEXISTS', EVENTS, id) + redis.call('HEXISTS', DEAD, id) > 0 then
      event.k = event.k .. '@' .. event.t -- of an older commit, whose key was forgotten and whose event is still here
      id = event.c .. '|' .. event.k
    end
    redis.call('HSET', EVENTS, id, cjson.encode(event))
    redis.call('ZADD', EVENT_DUE, event.t, id)
  end
  if is_swept then
    bound = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
    if not bound then redis.call('HDEL', ROWS, BOUND) end
  end
  if bound and (is_swept or is_bound_new) then
    set[#set + 1], set[#set + 2] = BOUND, text(bound)
  end
  for first = 1, #set, ALL_AT_ONCE do
    redis.call('HSET', ROWS, unpack(set, first, math.min(#set, first + ALL_AT_ONCE - 1)))
  end
  for _, field in ipairs(dropped or {}) do redis.call('HDEL', ROWS, field) end
end

-- Do a verb and write what it changed; `tell` says what it comes to where only what was written shows it.
local function done(verb, tell)
  local is_fine, outcome, set, dropped = pcall(function() return verb(), rendered() end)
  if not is_fine then
    if type(outcome) ~= 'table' or not outcome.code then error(outcome) end
    if outcome.code ~= 'more' then return 'failed ' .. outcome.code end
    write(rendered())
    redis.call('HINCRBY', META, 'seq', 1)
    return 'more'
  end
  local seq = meta[2]
  if is_swept or next(changed) or next(touched) then
    write(set, dropped)
    seq = redis.call('HINCRBY', META, 'seq', 1)
  end
  return 'done ' .. meta[1] .. ' ' .. seq .. ' ' .. (tell and tell() or outcome)
end

-- A receipt: whether it is a replay, what was available before, and the record.
local function receipt(record, before, is_replay)
  written[record] = cjson.encode(record) -- which is what is kept of it, too: a verb changes nothing after this
  return '[' .. tostring(is_replay) .. ',[' .. table.concat(before, ',') .. '],' .. written[record] .. ']'
end
