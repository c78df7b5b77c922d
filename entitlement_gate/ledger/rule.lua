-- What is available, which rows pay, and what news from billing changes: `rule.py` once more.
--
-- A row: id, remaining, used, and the field that its tally is kept in.

local ID, REMAINING, USED, FIELD = 1, 2, 3, 4

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

-- Learn newer rows, of those whose tallies were read.
local function adopt(rows, ticket)
  local newer, is_charged = nil, false
  for _, row in ipairs(rows) do
    local tally = tallies[row[FIELD]]
    if tally then
      is_charged = is_charged or tally[COMMITTED] ~= 0
      if tally[TICKET] < ticket then
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
