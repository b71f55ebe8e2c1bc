-- What a group has and may have.
--
-- KEYS  1 the group's hash   2 due   3 uses: see group.lua   4 what the nodes have announced of the group
-- ARGV  1 what the names of its channels begin with
-- Reply {channels, messages, octets, [announcement ...], milliseconds of the server's clock, limits of channels, subscribers, messages and
--       octets: nil where the group has none of its own; 1 if something may have expired that counts still, else 0}
local id, refusal = replication_id()
if not id then return refusal end
local now = clock()
local group, more = nil, false
-- Where nothing can be written it is told as it was counted.
pcall(function()
  group = open_group(KEYS[1], KEYS[2], KEYS[3], ARGV[1], now)
  verify_group(group)
  more = look_at_due(group, 500)
  if group.has_changed then save_group(group) end
end)
if not group then return redis.error_reply('STALE the group cannot be counted') end
local limits = redis.call('HMGET', KEYS[1], 'C', 'S', 'M', 'B')
return {whole(group.channels), whole(group.messages), whole(group.octets), redis.call('HVALS', KEYS[4]), now, limits[1], limits[2], limits[3],
  limits[4], more and 1 or 0}
