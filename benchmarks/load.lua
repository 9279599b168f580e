-- The requests of wrk. Arguments: seconds, method, number of accounts, and the access token if there is one.
-- After that time it sends no more requests and waits, so that every request is answered when it ends and the
-- answers can be compared with the balances.

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, microseconds; } timeval; int gettimeofday(timeval *, void *);")
local clock = ffi.new("timeval")
local function now()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.seconds) + tonumber(clock.microseconds) / 1e6
end

local requests, next_request, stop_at = {}, 0, nil

function init(args)
  local headers = args[4] and {["Authorization"] = "Bearer " .. args[4]} or {}
  for account = 0, tonumber(args[3]) - 1 do
    if args[2] == "GET" then
      requests[account] = wrk.format("GET", "/accounts/" .. account .. "/balance", headers)
    else
      headers["Content-Type"] = "application/json"
      requests[account] = wrk.format("POST", "/accounts/" .. account .. "/deposit", headers, '{"amount": 1}')
    end
  end
  stop_at = now() + tonumber(args[1])
end

function delay()
  return now() < stop_at and 0 or 3600 * 1000
end

function request()
  next_request = (next_request + 1) % (#requests + 1)
  return requests[next_request]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"answered": %d, "failed": %d, "p50": %g, "p99": %g}',
    summary.requests, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end
