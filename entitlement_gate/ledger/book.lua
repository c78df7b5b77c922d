-- The verbs of a ledger over one customer's book, as `book.py` has them, in one atomic step.
--
-- KEYS: meta, rows, records, due, events, event_due: all of one bucket, all in one hash slot.
-- ARGV[1]: JSON; every number in it that counts is decimal text, as is every number kept. Lua computes with doubles:
-- each sum is checked to be exact before anything is written, and everything is written at the end or not at all.

local META, ROWS, RECORDS, DUE, EVENTS, EVENT_DUE = unpack(KEYS)
local MOST = 9007199254740992
local BASELINE, COMMITTED, HELD, SEEN, REFUNDED, TICKET = 1, 2, 3, 4, 5, 6

local asked = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] + tonumber(asked.shift)
local tallies, changed = {}, {}
local records, touched = {}, {}
local events = {}

local function fail(code)
  error({ code = code })
end

local function exact(number)
  if number > MOST or number < -MOST then fail('range') end
  return number
end

local function text(number)
  return string.format('%.0f', number)
end

local function field(entitlement, row)
  return #entitlement .. ':' .. entitlement .. row
end

local function parsed(value)
  local tally = {}
  for number in string.gmatch(value, '%S+') do tally[#tally + 1] = tonumber(number) end
  return tally
end

local function tally_of(entitlement, row)
  local name = field(entitlement, row)
  if tallies[name] == nil then
    local value = redis.call('HGET', ROWS, name)
    tallies[name] = value and parsed(value) or false
  end
  return tallies[name]
end

local function put(entitlement, row, tally)
  for index = 1, 6 do exact(tally[index]) end
  local name = field(entitlement, row)
  tallies[name] = tally
  changed[name] = true
end

local function add(shares, column, sign)
  for _, share in ipairs(shares) do
    local tally = tally_of(share[1], share[2]) or { 0, 0, 0, 0, 0, 0 }
    tally[column] = tally[column] + sign * tonumber(share[3])
    put(share[1], share[2], tally)
  end
end

local function settle(key, record, state)
  record.s = state
  record.u = text(now + asked.retention)
  touched[key] = true
end

-- What a key stands for, once its time has taken effect.
local function record_of(key)
  if records[key] == nil then
    local value = redis.call('HGET', RECORDS, key)
    records[key] = value and cjson.decode(value) or false
  end
  local record = records[key]
  if record and tonumber(record.u) <= now then
    if record.s == 'held' then
      add(record.p, HELD, -1)
      settle(key, record, 'expired')
    else
      records[key] = false
      touched[key] = true
    end
  end
  return records[key]
end

local function sweep()
  local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', text(now), 'LIMIT', 0, 1000)
  for _, key in ipairs(due) do
    if not record_of(key) then touched[key] = true end
  end
end

local function known(key)
  return record_of(key) or fail('unknown')
end

-- billing's use of a row since its baseline, less what was committed here; negative is uncaught
local function surplus_of(used, tally)
  return exact(exact(exact(used - tally[BASELINE]) + tally[REFUNDED]) - tally[COMMITTED])
end

local function burden(entitlement, rows)
  local held, surplus = 0, 0
  for _, row in ipairs(rows) do
    local tally = tally_of(entitlement, row[1])
    if tally then
      held = exact(held + tally[HELD])
      surplus = exact(surplus + surplus_of(tonumber(row[3]), tally))
    end
  end
  return held + math.max(0, -surplus)
end

local function take_back(entitlement, rows, newer)
  local surplus = 0
  for _, row in ipairs(rows) do
    local tally = tally_of(entitlement, row[1])
    if tally then surplus = exact(surplus + surplus_of(tally[SEEN], tally)) end
  end
  for _, row in ipairs(newer) do
    local tally = tally_of(entitlement, row[1])
    local taken = math.max(0, math.min(tally[REFUNDED], surplus))
    tally[REFUNDED] = tally[REFUNDED] - taken
    surplus = surplus - taken
  end
end

local function adopt(entitlement, rows, ticket)
  local newer, is_charged = {}, false
  for _, row in ipairs(rows) do
    local tally = tally_of(entitlement, row[1])
    if tally then
      is_charged = is_charged or tally[COMMITTED] ~= 0
      if tally[TICKET] < ticket then newer[#newer + 1] = row end
    end
  end
  for _, row in ipairs(newer) do
    local tally, used = tally_of(entitlement, row[1]), tonumber(row[3])
    tally[REFUNDED] = tally[REFUNDED] + math.max(0, tally[SEEN] - used)
    tally[SEEN], tally[TICKET] = used, ticket
    if not is_charged then tally[BASELINE], tally[REFUNDED] = used, 0 end
  end
  if is_charged then take_back(entitlement, rows, newer) end
  for _, row in ipairs(newer) do put(entitlement, row[1], tally_of(entitlement, row[1])) end
end

local function allocate(demand, shares)
  local quantity = tonumber(demand.q)
  for index, row in ipairs(demand.r) do
    local amount = quantity
    if index < #demand.r then
      local room = tonumber(row[2]) - burden(demand.e, { row })
      amount = math.min(quantity, math.max(0, room))
    end
    if amount > 0 then
      shares[#shares + 1] = { demand.e, row[1], text(amount) }
      quantity = quantity - amount
    end
  end
end

local function first_charge(demand)
  local ticket = tonumber(demand.t)
  for _, row in ipairs(demand.r) do
    if not tally_of(demand.e, row[1]) then
      local used = tonumber(row[3])
      put(demand.e, row[1], { used, 0, 0, used, 0, ticket })
    end
  end
end

local function reshare(shares, actual)
  local kept = {}
  for index, share in ipairs(shares) do
    local amount = index == #shares and actual or math.min(actual, tonumber(share[3]))
    if amount > 0 then kept[#kept + 1] = { share[1], share[2], text(amount) } end
    actual = actual - amount
  end
  return kept
end

local function total(shares, entitlement)
  local sum = 0
  for _, share in ipairs(shares) do
    if entitlement == nil or share[1] == entitlement then sum = exact(sum + tonumber(share[3])) end
  end
  return sum
end

local function receipt(record, before, is_replay)
  return { s = record.s, p = record.p, x = record.x, o = record.o, l = record.l, b = before, y = is_replay }
end

local function is_same(wants, others)
  if #wants ~= #others then return false end
  for index, want in ipairs(wants) do
    if want[1] ~= others[index][1] or want[2] ~= others[index][2] then return false end
  end
  return true
end

local function report(key, record)
  local shipping = {}
  for _, want in ipairs(record.w) do
    if want[3] ~= '' then shipping[#shipping + 1] = want end
  end
  for _, want in ipairs(shipping) do
    local own = #shipping == 1 and key or key .. '/' .. want[1]
    local quantity = text(total(record.p, want[1]))
    events[#events + 1] = { k = own, c = asked.customer, s = want[3], f = want[4], q = quantity, t = text(now), a = '0' }
  end
end

local verbs = {}

function verbs.reserve()
  local record = record_of(asked.key)
  if record then
    if not is_same(record.w, asked.wants) then fail('conflict') end
    if record.s == 'held' or record.s == 'committed' then return receipt(record, {}, true) end
  end
  local before, is_overage, refusal = {}, false, nil
  for index, demand in ipairs(asked.demands) do
    adopt(demand.e, demand.r, tonumber(demand.t))
    local left = math.max(-MOST, tonumber(demand.left) - burden(demand.e, demand.r))
    before[index] = text(left)
    if left < tonumber(demand.q) then
      is_overage = true
      if not demand.over and not refusal then refusal = { refused = demand.e, left = text(left) } end
    end
  end
  if refusal then return refusal end
  local shares = {}
  for _, demand in ipairs(asked.demands) do
    first_charge(demand)
    allocate(demand, shares)
  end
  local until_ = text(now + asked.ttl)
  record = { w = asked.wants, p = shares, s = 'held', x = until_, u = until_, o = is_overage, l = false }
  add(shares, HELD, 1)
  records[asked.key], touched[asked.key] = record, true
  return receipt(record, before, false)
end

function verbs.commit()
  local record = known(asked.key)
  local actual = asked.actual and tonumber(asked.actual)
  if actual and #record.w > 1 then fail('several') end
  if record.s == 'committed' then
    if actual and actual ~= total(record.p) then fail('conflict') end
    return receipt(record, {}, true)
  end
  if record.s == 'released' then fail('released') end
  if record.s == 'expired' then
    if not asked.late then fail('expired') end
    record.l = true
  else
    add(record.p, HELD, -1)
  end
  if actual then record.p = reshare(record.p, actual) end
  add(record.p, COMMITTED, 1)
  settle(asked.key, record, 'committed')
  report(asked.key, record)
  return receipt(record, {}, false)
end

function verbs.consume()
  local held = verbs.reserve()
  if held.refused or held.s == 'committed' then return held end
  local done = verbs.commit()
  done.b = held.b
  return done
end

function verbs.release()
  local record = known(asked.key)
  if record.s == 'committed' then fail('committed') end
  if record.s ~= 'held' then return receipt(record, {}, true) end
  add(record.p, HELD, -1)
  settle(asked.key, record, 'released')
  return receipt(record, {}, false)
end

function verbs.extend()
  local record = known(asked.key)
  if record.s == 'expired' or record.s ~= 'held' then fail(record.s) end
  record.u = text(now + asked.ttl)
  record.x = record.u
  touched[asked.key] = true
  return receipt(record, {}, false)
end

function verbs.charges()
  local all = redis.call('HGETALL', ROWS)
  for index = 1, #all, 2 do
    if changed[all[index]] then
      local tally = tallies[all[index]]
      for column = 1, 6 do tally[column] = text(tally[column]) end
      all[index + 1] = table.concat(tally, ' ')
      for column = 1, 6 do tally[column] = tonumber(tally[column]) end
    end
  end
  return all
end

function verbs.adopt()
  local ticket, oldest = tonumber(asked.ticket), tonumber(asked.oldest)
  for entitlement, rows in pairs(asked.rows) do adopt(entitlement, rows, ticket) end
  local all = redis.call('HGETALL', ROWS)
  for index = 1, #all, 2 do
    local tally = tallies[all[index]] or parsed(all[index + 1])
    if tally[HELD] == 0 and tally[TICKET] < oldest then
      tallies[all[index]], changed[all[index]] = false, true
    end
  end
  return {}
end

local function write()
  local is_written = false
  for name in pairs(changed) do
    is_written = true
    local tally = tallies[name]
    if tally then
      for column = 1, 6 do tally[column] = text(tally[column]) end
      redis.call('HSET', ROWS, name, table.concat(tally, ' '))
    else
      redis.call('HDEL', ROWS, name)
    end
  end
  for key in pairs(touched) do
    is_written = true
    if records[key] then
      redis.call('HSET', RECORDS, key, cjson.encode(records[key]))
      redis.call('ZADD', DUE, records[key].u, key)
    else
      redis.call('HDEL', RECORDS, key)
      redis.call('ZREM', DUE, key)
    end
  end
  for _, event in ipairs(events) do
    local id = event.c .. '|' .. event.k
    redis.call('HSET', EVENTS, id, cjson.encode(event))
    redis.call('ZADD', EVENT_DUE, event.t, id)
  end
  return is_written
end

local meta = redis.call('HMGET', META, 'epoch', 'seq', 'accepted')
if not meta[1] then return { 'missing' } end
if asked.epoch ~= '' and asked.epoch ~= meta[1] then return { meta[3] and 'accepted' or 'other' } end
if tonumber(meta[2]) < tonumber(asked.seq) then return { 'behind' } end

local is_fine, outcome = pcall(function()
  sweep()
  return verbs[asked.verb]()
end)
if not is_fine then
  if type(outcome) == 'table' and outcome.code then return { 'failed', outcome.code } end
  error(outcome)
end
local seq = meta[2]
if write() then seq = text(redis.call('HINCRBY', META, 'seq', 1)) end
return { 'done', meta[1], seq, asked.verb == 'charges' and outcome or cjson.encode(outcome) }
