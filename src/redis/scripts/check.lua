-- Compares channels with what a node has of them, and makes what the node has announced of them true for longer: what is done again and again
-- for channels on which nothing happens. What is otherwise than the node believes is left to the scripts for one channel.
--
-- KEYS  for each channel: its hash, see publish.lua   how many subscribers the nodes have, and who they are: see announce.lua
--       then for each group of theirs that is counted: its hash and uses, see group.lua   how many subscribers the nodes have of it
-- ARGV  1 name of the node   2 milliseconds that its announcements are true   3 milliseconds that a channel lives at least from now on:
--       somebody listens   4 how many channels there are
--       then for each channel: the epoch that the node knows   subscribers that the node has announced, empty where that is left as it
--       is   1 if it has announced who they are, else 0   which of the groups is the channel's, 0 for none   its name in the group's uses
--       then for each group: how many subscribers the node has of it, empty where that is left as it is
-- Reply {for each channel its newest offset, or nil where it has to be read: it has another epoch, or is not counted as it is to be;
--       1 if the announcement is true, 0 if the server does not know who the subscribers are, -1 if it could not be written; ...
--       then for each group its own limit of subscribers, or nil}
local id, refusal = replication_id()
if not id then return refusal end
local now, node, lasts, lives, channels = tonumber(clock()), ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local groups = (#KEYS - 3 * channels) / 3

-- Groups whose keys live long enough. One channel that cannot be looked at is no reason to look at none: whatever fails is told of it alone.
local lasting, limits = {}, {}
for group = 1, groups do
  local key, sum = 3 * (channels + group - 1), ARGV[4 + 5 * channels + group]
  pcall(function()
    local left = redis.call('PTTL', KEYS[key + 1])
    lasting[group] = left == -1 or left >= tonumber(lives)
    limits[group] = redis.call('HGET', KEYS[key + 1], 'S')
    if sum ~= '' then announce(KEYS[key + 3], nil, node, sum, now, lasts) end
  end)
end

local function compare(hash, epoch, group, member)
  local known = redis.call('HMGET', hash, 'e', 'o', 'r')
  if known[1] ~= epoch or known[3] ~= id then return false end
  if group > 0 and not (lasting[group] and redis.call('HEXISTS', KEYS[3 * (channels + group - 1) + 2], member) == 1) then return false end
  -- Refused where replicas or the right are missing: the channel lives a little shorter. After it nothing is refused for want of memory, and
  -- what follows takes the place of what was there.
  redis.pcall('PEXPIRE', hash, lives, 'GT')
  return known[2]
end

local function announce_again(nodes, presence, count, has_who)
  announce(nodes, presence, node, count, now, lasts)
  if has_who == '0' then return 1 end
  outlive(presence, lasts)
  return redis.call('HGET', presence, node) and 1 or 0
end

local reply = {}
for channel = 1, channels do
  local key, argument = 3 * (channel - 1), 4 + 5 * (channel - 1)
  local hash, count = KEYS[key + 1], ARGV[argument + 2]
  local is_there, newest = pcall(compare, hash, ARGV[argument + 1], tonumber(ARGV[argument + 4]), ARGV[argument + 5])
  newest = is_there and newest
  local is_noted, noted = true, 1
  if count ~= '' then
    is_noted, noted = pcall(announce_again, KEYS[key + 2], KEYS[key + 3], count, ARGV[argument + 3])
    -- Only for those who ask, and refused where memory is short.
    if newest then redis.pcall('HSET', hash, 'q', string.format('%.0f', now)) end
  end
  reply[#reply + 1] = newest
  reply[#reply + 1] = is_noted and noted or -1
end
for group = 1, groups do reply[#reply + 1] = limits[group] or false end
return reply
