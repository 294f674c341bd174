"use strict";
// Loaded into NNI's server before its own code.

// NNI listens on every interface; let it listen on the loopback interface alone.
const net = require("net");
const listen = net.Server.prototype.listen;
const HOST = "127.0.0.1";

net.Server.prototype.listen = function (...args) {
  const first = args[0];
  const isOptions = typeof first === "object" && first !== null;
  if (isOptions && ("path" in first || "fd" in first || "_handle" in first || "handle" in first)) {
    return listen.apply(this, args); // a pipe
  }
  if (typeof first === "string" && !/^\d+$/.test(first)) {
    return listen.apply(this, args); // a pipe
  }
  const options = isOptions ? { ...first, host: HOST } : { port: Number(first) || 0, host: HOST };
  const callback = args.find((arg) => typeof arg === "function");
  return callback ? listen.call(this, options, callback) : listen.call(this, options);
};

// The prefix of all addresses is a secret between the server and who started it, so it is on no command line.
process.argv.push("--url-prefix", process.env.HWNAS_SERVICE_PREFIX);
process.argv.push("--tuner-command-channel", process.env.HWNAS_SERVICE_CHANNEL);

// The server ends with the process that started it, however that ends.
const parent = Number(process.env.HWNAS_SERVICE_PARENT);
let orphaned = 0;
setInterval(() => {
  if (process.ppid === parent) {
    return;
  }
  orphaned += 1;
  if (orphaned === 1) {
    process.kill(process.pid, "SIGTERM"); // ends the trials too
  } else if (orphaned > 15) {
    process.kill(process.pid, "SIGKILL");
  }
}, 1000).unref();
