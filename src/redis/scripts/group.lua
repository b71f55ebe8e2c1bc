-- What the channels of a group have together: put between the prelude and the scripts that count it.
--
-- A group has, besides what nodes announce of it,
--   a hash   c channels, m their messages, b octets of these; n channels that never expire, x until when the others do at the latest in
--            milliseconds, t when the group's keys expire, 0 for never; v place of the next look without a reason; C, S, M, B its own
--            limits of channels, subscribers, messages and octets
--   uses     a hash by channel of "messages:octets:milliseconds that a message is kept, 0 for ever:when the channel expires, 0 for never:
--            when it is due, 0 for never"
--   due      a sorted set of the channels by the time when the next part of one expires, or earlier
-- and each of its channels has a list of "offset:time:octets" of what is in its stream.
--
-- Invariant: c, m, b and n are the sums of the uses, and due has the same channels. Keys expire by themselves, which nobody is told of: a channel
-- is looked at when it is due, and where a limit refuses something also without a reason. What is missing altogether is counted anew.

local function whole(number)
  return string.format('%.0f', number)
end

local function parse_use(text)
  local messages, octets, age, ends, due = string.match(text, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
  if not messages then return {messages = 0, octets = 0, age = 0, ends = 0, due = 0} end
  return {messages = tonumber(messages), octets = tonumber(octets), age = tonumber(age), ends = tonumber(ends), due = tonumber(due)}
end

local function used(group, member)
  local use = redis.call('HGET', group.uses, member)
  return use and parse_use(use) or nil
end

local function add_use(group, use, sign)
  group.channels = group.channels + sign
  group.messages = group.messages + sign * use.messages
  group.octets = group.octets + sign * use.octets
  if use.ends == 0 then group.lasting = group.lasting + sign elseif use.ends > group.ends then group.ends = use.ends end
end

-- The first change of a script is one that is refused where there is no memory: after another one none is refused any more.
local function begin_changes(group)
  if group.has_changed then return end
  redis.call('HSET', group.hash, 'm', whole(group.messages))
  group.has_changed = true
end

-- Counts the uses anew where a key of the group is missing.
local function verify_group(group)
  local channels = redis.call('HLEN', group.uses)
  if channels == group.channels and channels == redis.call('ZCARD', group.due) then return end
  begin_changes(group)
  redis.call('DEL', group.due)
  group.channels, group.messages, group.octets, group.lasting, group.ends, group.expires = 0, 0, 0, 0, 0, nil
  local all = redis.call('HGETALL', group.uses)
  for i = 1, #all, 2 do
    add_use(group, parse_use(all[i + 1]), 1)
    redis.call('ZADD', group.due, '0', all[i])
  end
end

local function open_group(hash, due, uses, begin, now)
  local known = redis.call('HMGET', hash, 'm', 'c', 'b', 'n', 'x', 't', 'v', 'C', 'M', 'B', 'S')
  local group = {
    hash = hash, due = due, uses = uses, begin = begin, now = tonumber(now), channels = tonumber(known[2] or '0'),
    messages = tonumber(known[1] or '0'), octets = tonumber(known[3] or '0'), lasting = tonumber(known[4] or '0'),
    ends = tonumber(known[5] or '0'), expires = tonumber(known[6] or ''), place = tonumber(known[7] or '0'),
    limits = {known[8], known[9], known[10]}, has_limits = known[8] or known[9] or known[10] or known[11],
  }
  if not known[1] then verify_group(group) end
  return group
end

local function save_group(group)
  if group.channels == 0 and not group.has_limits then
    redis.call('DEL', group.hash, group.due, group.uses)
    return
  end
  local expires = group.expires
  if group.lasting > 0 or group.has_limits then
    expires = 0
  elseif not expires or expires == 0 or expires < group.ends then
    -- A little longer, so that not every message changes it.
    expires = group.ends + 60000
  end
  redis.call('HSET', group.hash, 'c', whole(group.channels), 'm', whole(group.messages), 'b', whole(group.octets), 'n', whole(group.lasting),
    'x', whole(group.ends), 't', whole(expires), 'v', whole(group.place))
  if expires == group.expires then return end
  for _, key in ipairs({group.hash, group.due, group.uses}) do
    if expires > 0 then redis.call('PEXPIREAT', key, whole(expires)) else redis.call('PERSIST', key) end
  end
end

-- Notes what a channel has that had `before`, and when a part of that expires next; without a time, never. A channel may be due earlier: it is
-- looked at then, and due again later.
local function note_use(group, member, use, due, before)
  begin_changes(group)
  if before then add_use(group, before, -1) end
  add_use(group, use, 1)
  if use.ends > 0 and (not due or use.ends < due) then due = use.ends end
  if not before or before.due <= group.now or (due and due < before.due) then
    redis.call('ZADD', group.due, due and whole(due) or '+inf', member)
  elseif before.due > 0 then
    due = before.due
  end
  redis.call('HSET', group.uses, member, whole(use.messages) .. ':' .. whole(use.octets) .. ':' .. whole(use.age) .. ':' .. whole(use.ends) .. ':' ..
    whole(due or 0))
end

-- Notes that there is no such channel.
local function forget_use(group, member)
  local before = used(group, member)
  begin_changes(group)
  if before then
    add_use(group, before, -1)
    redis.call('HDEL', group.uses, member)
  end
  redis.call('ZREM', group.due, member)
end

-- Octets of a message's data: src/redis/envelope.rs.
local function data_octets(sealed)
  local version, _, type_high, type_low, event_high, event_low = string.byte(sealed, 1, 6)
  if version ~= 1 or not event_low then return #sealed end
  return math.max(#sealed - 6 - type_high * 256 - type_low - event_high * 256 - event_low, 0)
end

-- Messages of a stream, and their octets. The list is made anew where it is not the stream's: a part was evicted, or another node has
-- published without counting.
local function stored(group, stream, list, use)
  local count, octets = redis.call('XLEN', stream), 0
  if redis.call('LLEN', list) == count then
    if use and use.messages == count then return count, use.octets end
    for at = 0, count - 1, 100 do
      for _, size in ipairs(redis.call('LRANGE', list, at, at + 99)) do octets = octets + tonumber(string.match(size, '%d+$')) end
    end
    return count, octets
  end
  begin_changes(group)
  redis.call('DEL', list)
  local after = '-'
  while true do
    local entries = redis.call('XRANGE', stream, after, '+', 'COUNT', 16)
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
      local time, size = '0', 0
      for i = 1, #entry[2], 2 do
        if entry[2][i] == 't' then time = entry[2][i + 1] elseif entry[2][i] == 'm' then size = data_octets(entry[2][i + 1]) end
      end
      redis.call('RPUSH', list, string.match(entry[1], '^%d+') .. ':' .. time .. ':' .. whole(size))
      octets = octets + size
      after = '(' .. entry[1]
    end
  end
  local lives = redis.call('PTTL', stream)
  if lives > 0 then redis.call('PEXPIRE', list, whole(lives)) end
  return count, octets
end

-- What goes of `count` messages where at most so many are kept, and none that was published at `before` or earlier: how many,
-- their octets, the offset of the newest of them, and when the oldest of the others was published.
local function surplus(list, count, most, before)
  local gone, octets, last, portion = 0, 0, nil, 2
  while gone < count do
    local sizes = redis.call('LRANGE', list, gone, gone + portion - 1)
    if #sizes == 0 then break end
    for _, text in ipairs(sizes) do
      local offset, time, size = string.match(text, '^(%d+):(%d+):(%d+)$')
      if count - gone <= most and tonumber(time) > before then return gone, octets, last, tonumber(time) end
      gone, octets, last = gone + 1, octets + tonumber(size), offset
    end
    portion = 32
  end
  return gone, octets, last, nil
end

local function drop_front(stream, list, gone, last)
  if gone == 0 then return end
  redis.call('LTRIM', list, gone, -1)
  if stream then redis.call('XTRIM', stream, 'MINID', '=', whole(tonumber(last) + 1) .. '-0') end
end

-- Counts a channel anew: what has expired of it goes, and is not counted any more.
local function look_at(group, member)
  local use = used(group, member)
  local stream, hash, list = group.begin .. member .. '}:m', group.begin .. member .. '}:h', group.begin .. member .. '}:s'
  local lives = redis.call('PTTL', hash)
  local count = redis.call('XLEN', stream)
  if lives == -2 and count == 0 or not use then return forget_use(group, member) end
  local stays, octets, due = redis.call('PTTL', stream), 0, nil
  if lives == -2 then lives = stays end
  count, octets = stored(group, stream, list, use)
  begin_changes(group)
  local gone, size, last, oldest = surplus(list, count, count, use.age > 0 and group.now - use.age or -1)
  drop_front(stream, list, gone, last)
  if oldest and use.age > 0 then due = oldest + use.age end
  if oldest and stays >= 0 and (not due or group.now + stays < due) then due = group.now + stays end
  local ends = lives < 0 and 0 or group.now + lives
  -- It is due again when that says, and not earlier.
  use.due = 0
  note_use(group, member, {messages = count - gone, octets = octets - size, age = use.age, ends = ends}, due, use)
end

-- Looks at channels of which something may have expired, at most at so many. Whether there are more.
local function look_at_due(group, most)
  local looked = 0
  while looked < most do
    local due = redis.call('ZRANGE', group.due, '-inf', whole(group.now), 'BYSCORE', 'LIMIT', 0, math.min(most - looked, 20))
    if #due == 0 then return false end
    for _, member in ipairs(due) do look_at(group, member) end
    looked = looked + #due
  end
  return true
end

-- Before something is refused: looks at what is due, and at some others, the next time at the next ones. A key may have been evicted, or deleted
-- by somebody else.
local function look_closely(group)
  verify_group(group)
  look_at_due(group, 500)
  local some = redis.call('ZRANGE', group.due, group.place, group.place + 15)
  for _, member in ipairs(some) do look_at(group, member) end
  group.place = group.place + #some
  if group.place >= group.channels then group.place = 0 end
end

-- Whether a group may have so much more; less is never refused. The limits are those of the location unless the group has its own.
local function allows(group, limits, channels, messages, octets)
  local have, more = {group.channels, group.messages, group.octets}, {channels, messages, octets}
  for i = 1, 3 do
    local limit = tonumber(group.limits[i] or limits[i] or '0')
    if limit > 0 and more[i] > 0 and have[i] + more[i] > limit then return false end
  end
  return true
end

-- What a message of `octets` octets makes of its channel, of which `most` messages are kept from now on: "all" or a number; and for `age`, where
-- those that are there were kept for `shortest` at the most. `newest` is the offset of the newest one, where it is known.
local function plan_message(group, member, stream, list, newest, is_there, most, age, shortest, octets)
  local use, count, size = used(group, member), nil, nil
  if use and not is_there then
    -- It has expired, and is another one from now on.
    forget_use(group, member)
    use = nil
  end
  if use and newest and (use.messages == 0 or string.match(redis.call('LINDEX', list, -1) or '', '^%d+') == newest) then
    count, size = use.messages, use.octets
  else
    count, size = stored(group, stream, list, use)
  end
  local keeps = most == 'all' and count + 1 or tonumber(most)
  local kept = keeps > 0 and 1 or 0
  local gone, less, last, oldest = surplus(list, count, keeps - kept, shortest > 0 and group.now - shortest or -1)
  return {
    member = member, list = list, kept = kept, octets = octets, gone = gone, last = last, is_aged = gone > count + kept - keeps,
    channels = is_there and 0 or 1, messages = count - gone + kept, size = size - less + kept * octets,
    more = kept - gone, larger = kept * octets - less, oldest = oldest or group.now, age = age, before = use,
  }
end

-- Counts a message that was stored, of which the stream has so many then. `ends` is when its channel expires, 0 for never.
local function count_message(group, plan, stream, offset, lifetime, ends)
  group.has_changed = true
  if plan.kept > 0 then redis.call('RPUSH', plan.list, offset .. ':' .. whole(group.now) .. ':' .. whole(plan.octets)) end
  drop_front(plan.is_aged and stream, plan.list, plan.gone, plan.last)
  if lifetime ~= '0' then redis.call('PEXPIRE', plan.list, lifetime) end
  local due = nil
  if plan.messages > 0 and plan.age > 0 then due = plan.oldest + plan.age end
  note_use(group, plan.member, {messages = plan.messages, octets = plan.size, age = plan.age, ends = ends}, due, plan.before)
  local entries = redis.call('XLEN', stream)
  if entries ~= plan.messages then look_at(group, plan.member) end
  -- Each message makes one channel due, so that no more than this is ever left.
  look_at_due(group, 2)
  save_group(group)
  return entries
end

