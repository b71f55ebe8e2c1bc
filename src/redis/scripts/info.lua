-- What a channel is: for its info, and for who is on it.
--
-- KEYS  as in delete.lua
-- ARGV  1 an epoch, drawn at random for this call
-- Reply {epoch, or nil where there is no channel; newest offset; entries that have not expired; [announcement ...]; milliseconds of the server's clock;
--       when a subscriber was last known of, or 0}
local id, refusal = replication_id()
if not id then return refusal end
local epoch, newest, stale = current_epoch(KEYS[1], KEYS[2], ARGV[1], id)
if stale then return stale end
local now, hash = clock(), redis.call('HMGET', KEYS[2], 'l', 'q')
return {epoch or false, newest, unexpired(KEYS[1], newest, hash[1], now), redis.call('HVALS', KEYS[3]), now, hash[2] or '0'}
