-- Publishes a message: gives it the next offset, stores it, and sends it to the nodes that listen.
--
-- KEYS  1 the channel's stream  2 its hash: e epoch, o newest offset, b newest offset when the epoch began, r replication id, t time of the newest age mark, k age marks,
--         q when a subscriber was last known of, p the epoch before, where it is known, x until when the stream and the hash live at least,
--         where publishing has given them a lifetime, l how many messages are kept and for how long: the third and fourth argument
--       3 how many subscribers the nodes have: see announce.lua
--       Where the channel's group is counted: 4 the group's hash   5 due   6 uses   7 the channel's list: see group.lua
-- ARGV  1 an epoch, drawn at random for this call   2 the message   3 entries that are kept: a number, or "all"
--       4 milliseconds that an entry is kept, 0 for ever   5 milliseconds that the keys live, 0 for ever
--       6 name of the Pub/Sub channel   7 PUBLISH, or SPUBLISH in a cluster
--       Where the group is counted: 8 what the names of its channels begin with   9 the channel's name behind that   10 octets of the
--       message's data   11 to 13 what the group may have of channels, messages and octets, 0 for any number
-- Reply {epoch, offset, 1 if the epoch is new else 0, nodes that were told, or -1 if something after the message was stored failed,
--       entries, [announcement ...], milliseconds of the server's clock, when a subscriber was last known of, or 0};
--       {"group"} where the group may not have so much: nothing was published
--
-- There is no roll-back in Redis: the message is stored first, and whatever fails after that leaves it published. An epoch ends when
-- the server may have gone back, which its replication id tells. What is stored stays and gets the new epoch; offsets go on.
local id, refusal = replication_id()
if not id then return refusal end
local now = clock()
local hash = redis.call('HMGET', KEYS[2], 'e', 'o', 'r', 't', 'k', 'q', 'x', 'l')
local epoch, newest = hash[1], tonumber(hash[2] or '0')
local is_new = not epoch or hash[3] ~= id
local keeps = ARGV[3] .. ':' .. ARGV[4]
-- What has expired by what the channel has kept until now does not come back with a message that is kept longer.
local age, before = tonumber(ARGV[4]), tonumber(string.match(hash[8] or '', ':(%d+)$') or '0')
local shortest = before > 0 and (age == 0 or before < age) and before or age
local group, plan

if KEYS[4] then
  group = open_group(KEYS[4], KEYS[5], KEYS[6], ARGV[8], now)
  local function plan_it()
    local is_there = epoch or redis.call('XLEN', KEYS[1]) > 0
    plan = plan_message(group, ARGV[9], KEYS[1], KEYS[7], epoch and hash[2], is_there, ARGV[3], age, shortest, tonumber(ARGV[10]))
    return allows(group, {ARGV[11], ARGV[12], ARGV[13]}, plan.channels, plan.more, plan.larger)
  end
  if not plan_it() then
    look_closely(group)
    if not plan_it() then
      save_group(group)
      return {'group'}
    end
  end
  -- Refused where there is no memory, or no right to count: before anything is stored.
  if not plan.before then redis.call('ZADD', group.due, now, plan.member) end
end

local function add()
  local entry = string.format('%.0f-0', newest + 1)
  if ARGV[3] == 'all' then return redis.pcall('XADD', KEYS[1], entry, 't', now, 'm', ARGV[2]) end
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], entry, 't', now, 'm', ARGV[2])
end

local entry = add()
if is_error(entry) and string.find(entry.err, 'equal or smaller', 1, true) then
  -- The hash was evicted, has expired or was restored without the stream: the stream knows the newest offset.
  newest, epoch = tonumber(newest_of(KEYS[1]) or '0'), nil
  is_new = true
  entry = add()
end
-- Out of memory, another type of key: nothing has been stored.
if is_error(entry) then return entry end

local offset, failed = string.format('%.0f', newest + 1), false
local function try(...)
  local reply = redis.pcall(...)
  if is_error(reply) then failed = true end
  return reply
end

if is_new then
  local base = string.format('%.0f', newest)
  local previous = epoch or ''
  epoch = ARGV[1]
  local reply = redis.pcall('HSET', KEYS[2], 'e', epoch, 'o', offset, 'r', id, 'b', base, 'p', previous, 'l', keeps)
  if is_error(reply) then
    redis.call('XDEL', KEYS[1], entry)
    return reply
  end
elseif hash[8] == keeps then
  try('HSET', KEYS[2], 'o', offset)
else
  try('HSET', KEYS[2], 'o', offset, 'l', keeps)
end

if group then
  -- Marks are of nodes that do not count the group, and tell nothing of this message.
  if hash[4] then try('HDEL', KEYS[2], 't', 'k') end
elseif shortest > 0 then
  -- At most ten marks "time:offset;". What is before a mark that is older than `shortest` may go. Readers leave out what is too old by
  -- its field t, so this bounds the memory, and what a longer time could bring back.
  local is_marked = age > 0 and tonumber(now) - tonumber(hash[4] or '0') >= age / 8
  if is_marked or hash[8] ~= keeps then
    local marks, first = (hash[5] or '') .. (is_marked and now .. ':' .. offset .. ';' or ''), nil
    while true do
      local marked, at, rest = string.match(marks, '^(%d+):(%d+);(.*)$')
      if not marked or tonumber(marked) > tonumber(now) - shortest then break end
      first, marks = at, rest
    end
    -- The message before this one came at most before / 8 after the newest mark.
    if before > 0 and hash[4] and tonumber(hash[4]) + before / 8 + shortest <= tonumber(now) then first = offset end
    if is_marked then try('HSET', KEYS[2], 't', now, 'k', marks) end
    if first then try('XTRIM', KEYS[1], 'MINID', '=', first .. '-0') end
  end
end
local entries = not group and try('XLEN', KEYS[1])
if group and ARGV[5] ~= '0' then
  try('PEXPIRE', KEYS[1], ARGV[5])
  try('PEXPIRE', KEYS[2], ARGV[5])
  -- A node that does not count the group may have said that they live longer.
  if hash[7] then try('HDEL', KEYS[2], 'x') end
elseif ARGV[5] ~= '0' then
  -- Keys that live long enough are left alone, and the others live an eighth longer than they have to, so that not every message changes it.
  -- A stream of one entry may be another one than x tells of.
  local ends = tonumber(now) + tonumber(ARGV[5])
  if is_new or failed or entries <= 1 or tonumber(hash[7] or '0') < ends then
    local more = math.floor(tonumber(ARGV[5]) / 8)
    local lifetime = string.format('%.0f', tonumber(ARGV[5]) + more)
    try('PEXPIRE', KEYS[1], lifetime)
    try('PEXPIRE', KEYS[2], lifetime)
    if not failed then try('HSET', KEYS[2], 'x', string.format('%.0f', ends + more)) end
  end
elseif is_new or newest == 0 or not hash[8] or before > 0 then
  -- Who published before may have given them a lifetime, and the hash who only listened.
  for _, key in ipairs({KEYS[1], KEYS[2], KEYS[7]}) do try('PERSIST', key) end
  if hash[7] then try('HDEL', KEYS[2], 'x') end
end
local nodes = try(ARGV[7], ARGV[6], epoch .. ':' .. offset .. ':' .. now .. ':' .. keeps .. '\n' .. ARGV[2])
if group then
  local lives = ARGV[5] ~= '0' and tonumber(ARGV[5]) or redis.call('PTTL', KEYS[2])
  local counted
  counted, entries = pcall(count_message, group, plan, KEYS[1], offset, ARGV[5], lives < 0 and 0 or group.now + lives)
  if not counted then failed = true end
end
local announced = try('HVALS', KEYS[3])
if failed then nodes, entries, announced = -1, 0, {} end
return {epoch, offset, is_new and 1 or 0, nodes, entries, announced, now, hash[6] or '0'}
