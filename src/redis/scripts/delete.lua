-- Deletes a channel and tells the nodes that listen.
--
-- KEYS  1 and 2 as in publish.lua   3 what the nodes have announced
-- ARGV  1 name of the Pub/Sub channel   2 PUBLISH, or SPUBLISH in a cluster
-- Reply as of info.lua, of what the channel was
local id, refusal = replication_id()
if not id then return refusal end
local hash = redis.call('HMGET', KEYS[2], 'e', 'o', 'q')
local entries = redis.call('XLEN', KEYS[1])
local announced, now = redis.call('HVALS', KEYS[3]), clock()
if not hash[1] and entries == 0 then return {false, '0', 0, announced, now, '0'} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.pcall(ARGV[2], ARGV[1], 'deleted:' .. (hash[1] or '0'))
return {hash[1], hash[2] or '0', entries, announced, now, hash[3] or '0'}
