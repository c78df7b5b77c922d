-- What becomes of a hold: committed, released, extended.

local function known()
  open({})
  return record_of(asked.key) or fail('unknown')
end

local function total(shares, entitlement)
  local sum = 0
  for index = 1, #shares, 3 do
    if not entitlement or shares[index] == entitlement then sum = sum + shares[index + 2] end
  end
  if sum > MOST then fail('range') end
  return sum
end

local function report(record)
  local wants, shipping = record[WANTS], {}
  events = {}
  for index = 1, #wants, 4 do
    if wants[index + 2] ~= '' then shipping[#shipping + 1] = index end
  end
  for _, index in ipairs(shipping) do
    local entitlement = wants[index]
    events[#events + 1] = {
      k = #shipping == 1 and asked.key or asked.key .. '/' .. entitlement,
      c = asked.customer,
      s = wants[index + 2],
      f = wants[index + 3],
      q = text(total(record[SHARES], entitlement)),
      t = text(now),
      a = '0',
    }
  end
end

-- What was used in the end, less or more than was held.
local function reshare(shares, actual)
  local left = {}
  for index = 1, #shares, 3 do
    local amount = index + 3 > #shares and actual or math.min(actual, shares[index + 2] + 0)
    if amount > 0 then
      local at = #left
      left[at + 1], left[at + 2], left[at + 3] = shares[index], shares[index + 1], text(amount)
    end
    actual = actual - amount
  end
  return left
end

local function committed(record, before)
  local actual = asked.actual
  if actual and #record[WANTS] > 4 then fail('several') end
  if record[STATE] == 'committed' then
    if actual and actual ~= total(record[SHARES]) then fail('conflict') end
    return receipt(record, {}, true)
  end
  if record[STATE] == 'held' then
    add(record[SHARES], HELD, -1)
  else
    if not asked.late then fail(record[STATE]) end
    record[IS_LATE] = true
  end
  if actual then record[SHARES] = reshare(record[SHARES], actual) end
  add(record[SHARES], COMMITTED, 1)
  settle(asked.key, record, 'committed')
  report(record)
  return receipt(record, before, false)
end

local function commit()
  return committed(known(), {})
end

local function release()
  local record = known()
  local is_owner = record[OWNER] == asked.owner
  if is_owner and record[STATE] == 'committed' then fail('committed') end
  if not is_owner or record[STATE] ~= 'held' then return receipt(record, {}, true) end
  add(record[SHARES], HELD, -1)
  settle(asked.key, record, 'released')
  return receipt(record, {}, false)
end

local function extend()
  local record = known()
  if record[STATE] ~= 'held' then fail(record[STATE]) end
  record[EXPIRES] = text(now + asked.ttl)
  record[UNTIL] = record[EXPIRES]
  keep(asked.key, record)
  return receipt(record, {}, false)
end
