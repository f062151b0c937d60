-- Puts one account's newest profile into its hash, and gives notice of the change: nothing comes between.
--
-- KEYS: the account's hash; the stream of notices, if there is one.
-- ARGV: the revision; "put" or "delete"; the channel ("" for none) and its message; the stream's length; how many texts
-- its entry is, and how many the fields to set are with their values; all these texts; the fields that must not be there.
--
-- A script that fails midway is not undone. Hence every check is before the first write, and the hash is written last:
-- a notice is given again rather than lost.
local hash, stream = KEYS[1], KEYS[2]
local revision, action, channel, message, maxlen = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local entry = 8
local first = entry + tonumber(ARGV[6])
local last = first + tonumber(ARGV[7]) - 1

local kind = redis.call('TYPE', hash).ok
if kind ~= 'none' and kind ~= 'hash' then
  return {'occupied', kind}
end
if stream then
  local found = redis.call('TYPE', stream).ok
  if found ~= 'none' and found ~= 'stream' then
    return {'no stream', found}
  end
end

-- Revisions are compared as texts: Lua's numbers are exact up to 2^53 only.
local function is_later(one, other)
  return #one > #other or (#one == #other and one > other)
end

local held = redis.call('HGET', hash, 'revision')
if held and string.match(held, '^[1-9]%d*$') and is_later(held, revision) then
  return {'older', held}
end

local function is_same()
  if action == 'delete' then
    return kind == 'none'
  end
  for at = first, last, 2 do
    if redis.call('HGET', hash, ARGV[at]) ~= ARGV[at + 1] then
      return false
    end
  end
  for at = last + 1, #ARGV do
    if redis.call('HEXISTS', hash, ARGV[at]) == 1 then
      return false
    end
  end
  return true
end

if is_same() then
  return {'same'}
end
if stream then
  redis.call('XADD', stream, 'MAXLEN', '~', maxlen, '*', unpack(ARGV, entry, first - 1))
end
if channel ~= '' then
  redis.call('PUBLISH', channel, message)
end
if action == 'delete' then
  redis.call('DEL', hash)
else
  -- A full server refuses a script at its first write, and no later one; HDEL it would let pass.
  redis.call('HSET', hash, unpack(ARGV, first, last))
  if last < #ARGV then
    redis.call('HDEL', hash, unpack(ARGV, last + 1))
  end
end
return {'written'}
