-- What every script begins with. Lua in the server knows no module: this text is put before each of the others.

-- The replication id of this server. It changes whenever the server may have gone back: after a restart, a failover, a promotion.
-- Error replies otherwise: what a replica has may be older than what its master has acknowledged.
local function replication_id()
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) then return nil, redis.error_reply('READONLY this server is no master') end
  local id = string.match(info, 'master_replid:(%x+)')
  if not id then return nil, redis.error_reply('ERR the server has no replication id') end
  return id
end

-- The server's clock as milliseconds in decimal. A number becomes text by string.format only: tostring() writes numbers of more than
-- 14 digits with an exponent.
local function clock()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end

-- Whether redis.pcall() has returned an error.
local function is_error(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

-- The newest offset that a stream has ever had; nil where there is no stream.
local function newest_of(stream)
  local state = redis.pcall('XINFO', 'STREAM', stream)
  if is_error(state) then return nil end
  for i = 1, #state, 2 do
    if state[i] == 'last-generated-id' then return string.match(state[i + 1], '^(%d+)') end
  end
end

-- Epoch and newest offset of a channel, for those who read; nil where there is no channel. Whoever comes first after the server may have
-- gone back begins the new epoch, reader or publisher. Where that cannot be written there is an error: the old epoch is not to be
-- believed, and a new one that is not kept would be another one for the next reader.
local function current_epoch(stream, hash, candidate, id)
  local known = redis.call('HMGET', hash, 'e', 'o', 'r')
  if known[1] and known[2] and known[3] == id then return known[1], known[2] end
  local newest, lives = known[2] or newest_of(stream), nil
  if not newest then return nil, '0' end
  if not known[1] then lives = redis.call('PTTL', stream) end
  local previous = known[1] and known[2] and known[1] or ''
  local reply = redis.pcall('HSET', hash, 'e', candidate, 'o', newest, 'r', id, 'b', newest, 'p', previous)
  if is_error(reply) then return nil, nil, redis.error_reply('STALE ' .. reply.err) end
  if lives and lives > 0 then redis.pcall('PEXPIRE', hash, string.format('%.0f', lives)) end
  return candidate, newest
end

-- How many entries of a stream are still to be kept, by what its channel keeps: see l in publish.lua. What has expired goes with the next
-- message only. Offsets have no holes but at the front, so that few entries have to be read, which may be large.
local function unexpired(stream, newest, keeps, now)
  local count = redis.call('XLEN', stream)
  local age = tonumber(string.match(keeps or '', ':(%d+)$') or '0')
  if count == 0 or age == 0 then return count end
  local function is_expired(from)
    local entry = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
    return entry and entry[2][1] == 't' and tonumber(entry[2][2]) + age <= tonumber(now)
  end
  if not is_expired('-') then return count end
  local expired, first = tonumber(newest) - count, tonumber(newest) + 1
  while first - expired > 1 do
    local middle = math.floor((first + expired) / 2)
    if is_expired(string.format('%.0f-0', middle)) then expired = middle else first = middle end
  end
  return tonumber(newest) + 1 - first
end
