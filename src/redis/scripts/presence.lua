-- Who is on a channel, at all nodes.
--
-- KEYS  1 the channel's stream   2 its hash   3 and 4 as 1 and 2 of announce.lua
-- ARGV  none
-- Reply {1 if there is such a channel, else 0; count, who they are ...}: a pair for each node whose announcement is not void
local id, refusal = replication_id()
if not id then return refusal end
local now = tonumber(clock())
local is_there = redis.call('HGET', KEYS[2], 'e') or redis.call('XLEN', KEYS[1]) > 0
local nodes, reply = redis.call('HGETALL', KEYS[3]), {is_there and 1 or 0}
for i = 1, #nodes, 2 do
  local ends, count = string.match(nodes[i + 1], '^(%d+):(%d+)')
  if ends and tonumber(ends) > now then
    reply[#reply + 1] = count
    reply[#reply + 1] = redis.call('HGET', KEYS[4], nodes[i]) or ''
  end
end
return reply
