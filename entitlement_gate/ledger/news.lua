-- What billing says of all rows, and what is counted of them.

local function adopt_all()
  local all = redis.call('HGETALL', ROWS)
  local fields = {}
  for index = 1, #all, 2 do
    if all[index] ~= BOUND then fields[#fields + 1] = all[index] end
  end
  open(fields)
  for entitlement, rows in pairs(asked.rows) do
    for _, row in ipairs(rows) do
      row[FIELD] = field_of(entitlement, row[ID])
    end
    adopt(rows, possible(asked.ticket))
  end
  local oldest = possible(asked.ticket) - asked.forgotten_after
  for _, field in ipairs(fields) do
    local tally = tallies[field]
    if tally[HELD] == 0 and tally[TICKET] < oldest then tallies[field], changed[field] = false, true end
  end
  return '[]'
end

local function charges()
  open({})
  return ''
end

local function told()
  local all, rows = redis.call('HGETALL', ROWS), {}
  for index = 1, #all, 2 do
    if all[index] ~= BOUND then
      local tally = { struct.unpack(SIX, all[index + 1]) }
      for column = 1, 6 do tally[column] = text(tally[column]) end
      rows[#rows + 1], rows[#rows + 2] = all[index], table.concat(tally, ' ', 1, 6)
    end
  end
  return cjson.encode(rows)
end
