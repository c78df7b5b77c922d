-- Holding: every demand or none. A demand: quantity, ticket, all that remains, whether it may overdraw, its rows.

local QUANTITY, SEEN_AT, LEFT, MAY_OVERDRAW, ROWS_OF = 1, 2, 3, 4, 5

-- Read what the demands are about.
local function open_rows()
  local fields = {}
  for number, demand in ipairs(asked.demands) do
    local entitlement = asked.wants[4 * number - 3]
    for _, row in ipairs(demand[ROWS_OF]) do
      local field = field_of(entitlement, row[ID])
      row[FIELD] = field
      fields[#fields + 1] = field
    end
  end
  open(fields)
end

-- What is available to each demand, once it was learnt what billing says; whether it is too little; a refusal.
local function weighed()
  local before, is_overage, refusal = {}, false, nil
  for number, demand in ipairs(asked.demands) do
    local rows = demand[ROWS_OF]
    adopt(rows, possible(demand[SEEN_AT]))
    local left = math.max(-MOST, demand[LEFT] - burden(rows, 1, #rows))
    before[number] = text(left)
    if left < demand[QUANTITY] then
      is_overage = true
      if not demand[MAY_OVERDRAW] and not refusal then
        refusal = cjson.encode({ asked.wants[4 * number - 3], before[number] })
      end
    end
  end
  return before, is_overage, refusal
end

-- Hold a demand's quantity: the first rows as far as each alone has room, the last one the rest.
local function allocate(demand, entitlement, shares)
  local quantity, rows = demand[QUANTITY], demand[ROWS_OF]
  for index, row in ipairs(rows) do
    local field = row[FIELD]
    local tally = tallies[field]
    if not tally then
      tally = { row[USED], 0, 0, row[USED], 0, possible(demand[SEEN_AT]) }
      tallies[field], changed[field] = tally, true
    end
    local amount = quantity
    if index < #rows then amount = math.min(quantity, math.max(0, row[REMAINING] - burden(rows, index, index))) end
    if amount > 0 then
      local at = #shares
      shares[at + 1], shares[at + 2], shares[at + 3] = entitlement, row[ID], text(amount)
      tally[HELD], changed[field] = tally[HELD] + amount, true
      quantity = quantity - amount
    end
  end
end

-- Whether the key was used for the same: by its purpose, whatever paid; else by what is wanted. Where that is reported
-- may have changed since, and where nothing is held any more another entitlement may pay now.
local function is_same(record, is_taken)
  if asked.purpose ~= '' and record[PURPOSE] == asked.purpose then return true end
  local wants, others = asked.wants, record[WANTS]
  if #wants ~= #others then return false end
  for index = 1, #wants, 4 do
    if is_taken and wants[index] ~= others[index] or wants[index + 1] ~= others[index + 1] then return false end
  end
  return true
end

-- The record of a hold, what was available before, and whether it is a replay; or nothing, and a refusal.
local function held()
  open_rows()
  local record = record_of(asked.key)
  if record then
    local is_taken = record[STATE] == 'held' or record[STATE] == 'committed'
    if not is_same(record, is_taken) then fail('conflict') end
    if is_taken then return record, {}, true end
  end
  local before, is_overage, refusal = weighed()
  if refusal then return nil, refusal end
  local shares, until_ = {}, text(now + asked.ttl)
  for number, demand in ipairs(asked.demands) do allocate(demand, asked.wants[4 * number - 3], shares) end
  local asked_by = { asked.owner, asked.is_lone, asked.purpose }
  record = { 'held', until_, until_, is_overage, false, asked.wants, shares, unpack(asked_by) }
  keep(asked.key, record)
  return record, before, false
end

local function reserve()
  local record, before, is_replay = held()
  return record and receipt(record, before, is_replay) or before
end
