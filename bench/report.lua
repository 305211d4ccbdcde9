-- Sends what the arguments ask for, and reports a run as one line of JSON: `wrk -s report.lua URL -- BODY_BYTES`.
-- The body is one string of JSON, both quotes counted. BENCH_STATUSES=1 counts statuses, BENCH_BUCKETS=N latencies in N ranges
-- from 32 µs on, each √2 times as wide as the one before; the last one has no end.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  statuses = {}
  local size = tonumber(arguments[1] or "0")
  if size > 0 then
    wrk.method = "POST"
    wrk.body = '"' .. string.rep("x", size - 2) .. '"'
  end
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end

-- wrk calls `response` per answer only if it exists, which costs; plain runs go without.
if not os.getenv("BENCH_STATUSES") then
  response = nil
end

local function buckets(latency)
  local count = tonumber(os.getenv("BENCH_BUCKETS") or "0")
  local counted = {}
  for index = 1, count do
    counted[index] = 0
  end
  for index = 1, count > 0 and #latency or 0 do
    local us, times = latency(index)
    local bucket = math.floor(math.log(math.max(us, 32) / 32) / math.log(math.sqrt(2))) + 1
    counted[math.min(bucket, count)] = counted[math.min(bucket, count)] + times
  end
  return table.concat(counted, ",")
end

function done(summary, latency)
  local counted = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses") or {}) do
      counted[status] = (counted[status] or 0) + count
    end
  end
  local parts = {}
  for status, count in pairs(counted) do
    table.insert(parts, string.format('"%d":%d', status, count))
  end
  local errors = summary.errors
  io.write(string.format(
    '\nREPORT {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d,"statuses":{%s},"buckets":[%s]}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout, table.concat(parts, ","), buckets(latency)))
end
