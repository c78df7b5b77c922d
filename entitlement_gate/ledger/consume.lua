-- Reserving and committing at once: `reserve.lua` and `settle.lua` come before.

local function consume()
  local record, before = held()
  return record and committed(record, before) or before
end
