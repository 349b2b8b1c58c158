-- Keeps the time limit where one call of a library function could take long: nothing interrupts those.
local native = ...
local raw_find, raw_match, raw_gmatch, raw_gsub, raw_rep = string.find, string.match, string.gmatch, string.gsub, string.rep
local raw_sort, raw_insert, raw_remove, raw_concat = table.sort, table.insert, table.remove, table.concat
local byte, sub = string.byte, string.sub
local type, tostring, error, select, unpack = type, tostring, error, select, unpack
local expired, pattern_find = native.expired, native.pattern_find

-- Steps that may go by without a look at the clock.
local STEPS = 2e7
-- Bytes, or elements, that are worth a look.
local MUCH = 65536

local function look()
  if expired() then error("code ran for too long", 0) end
end

-- How often a pattern makes the matcher begin anew, as a power of the text's length; kept for a bounded number of patterns.
local powers, known = {}, 0
local function power(pattern)
  local found = powers[pattern]
  if found then return found end
  local count = byte(pattern, 1) == 94 and 0 or 1
  for at = 1, #pattern do
    local one = byte(pattern, at)
    -- * + - ? and what follows %: b balances, digits repeat.
    if one == 42 or one == 43 or one == 45 or one == 63 then count = count + 1
    elseif one == 37 then
      local next_one = byte(pattern, at + 1)
      if next_one == 98 or next_one and next_one >= 48 and next_one <= 57 then count = count + 1 end
    end
  end
  if known >= 1000 then powers, known = {}, 0 end
  powers[pattern], known = count, known + 1
  return count
end
local function is_quick(text, pattern)
  local length = #text
  if length > MUCH then look() end
  return (length + 1) ^ power(pattern) <= STEPS
end
local function is_text(value) return type(value) == "string" end

local function start_of(text, init)
  init = init or 1
  if init < 0 then init = #text + init + 1 end
  return init < 1 and 0 or init - 1
end

function string.find(text, pattern, init, plain)
  if is_text(text) and is_text(pattern) then
    if plain then
      if #text * #pattern > STEPS * 10 then return native.plain_find(text, pattern, start_of(text, init)) end
    elseif not is_quick(text, pattern) then
      return pattern_find(text, pattern, start_of(text, init))
    end
  end
  return raw_find(text, pattern, init, plain)
end

local function captured(text, from, to, ...)
  if not from then return nil end
  if select("#", ...) == 0 then return sub(text, from, to) end
  return ...
end
function string.match(text, pattern, init)
  if is_text(text) and is_text(pattern) and not is_quick(text, pattern) then
    return captured(text, pattern_find(text, pattern, start_of(text, init)))
  end
  return raw_match(text, pattern, init)
end

function string.gmatch(text, pattern)
  if not (is_text(text) and is_text(pattern)) or is_quick(text, pattern) then return raw_gmatch(text, pattern) end
  -- Here ^ stands for itself.
  if byte(pattern, 1) == 94 then pattern = "%" .. pattern end
  local at = 0
  return function()
    if at > #text then return nil end
    local found = { pattern_find(text, pattern, at) }
    local from, to = found[1], found[2]
    if not from then
      at = #text + 1
      return nil
    end
    at = to >= from and to or to + 1
    return captured(text, unpack(found, 1, #found))
  end
end
string.gfind = nil

local function replaced(replacement, text, from, to, ...)
  local whole, kind = sub(text, from, to), type(replacement)
  local first = (...)
  if select("#", ...) == 0 then first = whole end
  local value
  if kind == "function" then
    if select("#", ...) == 0 then value = replacement(whole) else value = replacement(...) end
  elseif kind == "table" then
    value = replacement[first]
  else
    local captures, count = { ... }, select("#", ...)
    return (raw_gsub(tostring(replacement), "%%(.?)", function(which)
      if which == "0" then return whole end
      if which >= "1" and which <= "9" then
        local place = which + 0
        if place == 1 and count == 0 then return whole end
        if place > count then error("invalid capture index", 0) end
        return tostring(captures[place])
      end
      return which
    end))
  end
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then error("invalid replacement value (a " .. type(value) .. ")", 0) end
  return tostring(value)
end
function string.gsub(text, pattern, replacement, most)
  if not (is_text(text) and is_text(pattern)) or is_quick(text, pattern) then return raw_gsub(text, pattern, replacement, most) end
  local out, at, count, anchored = {}, 0, 0, byte(pattern, 1) == 94
  while at <= #text and not (most and count >= most) do
    local found = { pattern_find(text, pattern, at) }
    local from, to = found[1], found[2]
    if not from then break end
    count = count + 1
    out[#out + 1] = sub(text, at + 1, from - 1)
    out[#out + 1] = replaced(replacement, text, unpack(found, 1, #found))
    if to < from then
      out[#out + 1] = sub(text, from, from)
      at = from
    else
      at = to
    end
    if anchored then break end
  end
  out[#out + 1] = sub(text, at + 1)
  return raw_concat(out), count
end

function string.rep(text, count, ...)
  if type(count) == "number" and count > 0 and #tostring(text) * count > MUCH then look() end
  return raw_rep(text, count, ...)
end

function table.sort(list, before)
  if type(list) == "table" and #list > MUCH then
    look()
    -- Compared by code, so that the clock is looked at.
    before = before or function(one, two) return one < two end
  end
  return raw_sort(list, before)
end
function table.insert(list, ...)
  if select("#", ...) > 1 and type(list) == "table" and #list > MUCH then look() end
  return raw_insert(list, ...)
end
function table.remove(list, place, ...)
  if place and type(list) == "table" and #list > MUCH then look() end
  if place == nil then return raw_remove(list) end
  return raw_remove(list, place, ...)
end
function table.concat(list, ...)
  if type(list) == "table" and #list > MUCH then look() end
  return raw_concat(list, ...)
end
