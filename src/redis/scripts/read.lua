-- Compares a channel with what a node has of it, and returns what is newer.
--
-- KEYS  1 and 2 as in publish.lua
--       Where the channel's group is counted: 3 the group's hash   4 due   5 uses: see group.lua
-- ARGV  1 an epoch, drawn at random for this call   2 the offset after which entries are wanted   3 entries that are wanted at most,
--       0 to compare only   4 octets after which no more entries are returned   5 milliseconds that the hash lives at least from now
--       on: somebody listens, and a channel that is not there yet begins; 0 leaves it as it is
--       Where the group is counted: 6 what the names of its channels begin with   7 the channel's name behind that
-- Reply {epoch, or nil where there is no channel; newest offset; oldest offset that is stored, or 0; newest offset when the epoch
--       began, the epoch before it, and what the channel keeps, where somebody has published: "offset;epoch;l", see publish.lua;
--       [id, [field, value, ...]] ...}
--
local id, refusal = replication_id()
if not id then return refusal end
local epoch, newest, stale = current_epoch(KEYS[1], KEYS[2], ARGV[1], id)
if stale then return stale end
if not epoch then
  if ARGV[5] == '0' then return {false, '0', '0', '0;;'} end
  -- What is published from now on is in this epoch, and nobody who listens has lost anything.
  epoch, newest = ARGV[1], '0'
  local reply = redis.pcall('HSET', KEYS[2], 'e', epoch, 'o', newest, 'r', id, 'b', newest)
  if is_error(reply) then return redis.error_reply('STALE ' .. reply.err) end
  redis.pcall('PEXPIRE', KEYS[2], ARGV[5])
elseif ARGV[5] ~= '0' then
  local lives = redis.call('PTTL', KEYS[2])
  -- Refused where memory is short or the right is missing: the channel lives a little shorter.
  if lives >= 0 and lives < tonumber(ARGV[5]) then redis.pcall('PEXPIRE', KEYS[2], ARGV[5]) end
end

if KEYS[3] and ARGV[5] ~= '0' then
  -- Who listens makes a channel anew that was lost, and lets it live longer. What cannot be written is counted later.
  pcall(function()
    local is_counted, lives = redis.call('HEXISTS', KEYS[5], ARGV[7]), redis.call('PTTL', KEYS[3])
    if is_counted == 1 and (lives == -1 or lives >= tonumber(ARGV[5])) then return end
    local group = open_group(KEYS[3], KEYS[4], KEYS[5], ARGV[6], clock())
    if is_counted == 0 then note_use(group, ARGV[7], {messages = 0, octets = 0, age = 0, ends = 0}) end
    look_at(group, ARGV[7])
    save_group(group)
  end)
end

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local past = redis.call('HMGET', KEYS[2], 'b', 'p', 'l')
local reply = {epoch, newest, oldest and string.match(oldest[1], '^(%d+)') or '0',
  (past[1] or newest) .. ';' .. (past[2] or '') .. ';' .. (past[3] or '')}
local wanted, octets, after = tonumber(ARGV[3]), tonumber(ARGV[4]), '(' .. ARGV[2] .. '-0'
while wanted > 0 and octets > 0 do
  -- In portions: the size of an entry is known when it has been read, and what is too much was read in vain.
  local entries = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', math.min(wanted, 16))
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    if octets <= 0 then break end
    reply[#reply + 1] = entry
    for _, field in ipairs(entry[2]) do octets = octets - #field end
    after = '(' .. entry[1]
  end
  wanted = wanted - #entries
end
return reply
