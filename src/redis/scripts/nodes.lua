-- What nodes announce of their subscribers, in a hash by node of "time:count": put between the prelude and the scripts that change it. An
-- announcement is void after its time, so that a node that dies is gone from all sums.

-- A key lives as long as the announcement that is true longest: nobody else would remove it.
local function outlive(key, lifetime)
  if redis.call('PTTL', key) < tonumber(lifetime) then redis.call('PEXPIRE', key, lifetime) end
end

-- Notes that a node has so many subscribers, from `now` on for `lifetime` milliseconds; an empty count is for none any more. What is void of
-- other nodes goes, and with it what they have in the hash `beside`. Returns the announcements that are true, and whether the node had one.
local function announce(nodes, beside, node, count, now, lifetime)
  local all, void, known, had = redis.call('HGETALL', nodes), {}, {}, false
  for i = 1, #all, 2 do
    if all[i] == node then
      had = true
    elseif tonumber(string.match(all[i + 1], '^(%d+):') or '0') <= now then
      void[#void + 1] = all[i]
    else
      known[#known + 1] = all[i + 1]
    end
  end
  if count == '' then
    void[#void + 1] = node
  else
    local own = string.format('%.0f', now + tonumber(lifetime)) .. ':' .. count
    redis.call('HSET', nodes, node, own)
    known[#known + 1] = own
    outlive(nodes, lifetime)
  end
  -- In portions: unpack() has a limit.
  for i = 1, #void, 100 do
    local last = math.min(i + 99, #void)
    redis.call('HDEL', nodes, unpack(void, i, last))
    if beside then redis.call('HDEL', beside, unpack(void, i, last)) end
  end
  return known, had
end

