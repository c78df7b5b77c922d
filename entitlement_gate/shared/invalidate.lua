-- Begins a new generation of a customer: what was fetched before no longer counts, and all who listen hear of it.
-- KEYS: generation, record, lease, news. ARGV: the new generation, milliseconds that it is kept, scope, customer,
-- sender, most entries of the news.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*',
  'scope', ARGV[3], 'customer', ARGV[4], 'generation', ARGV[1], 'sender', ARGV[5])
return 1
