// What the environment and the caller say: which channel, which key, and which of the two ends this program is.
// The only file that reads the environment.

"use strict";

const fs = require("node:fs");
const inspector = require("node:inspector");
const os = require("node:os");
const { parseKey } = require("./seal");

const PROGRAM = `bungee-node ${require("../package.json").version}`;
/** Milliseconds that an invocation may run where nothing else says so. */
const LONGEST = 900_000;
/** In Lambda a process sleeps between invocations: so long it may take to hear who is attached, in milliseconds. */
const LAMBDA_WAIT = 500;

/** Variables that only deployed programs have. */
const DEPLOYED = [
  "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_EXECUTION_ENV", "ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4",
  "KUBERNETES_SERVICE_HOST", "K_SERVICE", "CLOUD_RUN_JOB", "FUNCTION_TARGET", "WEBSITE_INSTANCE_ID", "CONTAINER_APP_NAME",
  "FLY_APP_NAME", "DYNO", "RENDER", "RAILWAY_ENVIRONMENT", "NOMAD_ALLOC_ID", "CI",
];

/**
 * @typedef {object} Settings
 * @property {"host" | "session"} role
 * @property {string} url
 * @property {string | null} token
 * @property {Buffer | null} seal
 * @property {boolean} isLoopback
 * @property {number} wait
 * @property {string} name
 * @property {string} developer
 * @property {string} program
 * @property {{rule: string, mode: string, take_over: boolean, hold_deadline: boolean, all: boolean, concurrency: number | null}} claim
 */

/**
 * What applies to one wrapped handler. Null: no channel, and the wrapper does nothing.
 * @param {Record<string, any>} options @param {NodeJS.ProcessEnv} env @returns {Settings | null}
 */
function settingsOf(options, env) {
  const channel = options.channel ?? env.BUNGEE_CHANNEL;
  const role = options.role ?? roleOf(env);
  if (!channel || role === "off") return null;
  const url = urlOf(channel);
  const isLoopback = isLocal(url.hostname);
  const text = options.key ?? env.BUNGEE_KEY;
  const key = text ? parseKey(text) : null;
  if (key && key.expiry !== 0 && key.expiry * 1000 < Date.now()) {
    throw new Error(`BUNGEE_KEY has expired on ${new Date(key.expiry * 1000).toISOString()}; \`bungee token create --role bridge\` prints a new one`);
  }
  if (url.protocol === "ws:" && !isLoopback && !key) {
    throw new Error(`nothing protects what would cross ${url.origin}: use wss://, or set BUNGEE_KEY, which seals it`);
  }
  return {
    role, isLoopback,
    url: url.href,
    token: key?.token || options.token || env.BUNGEE_TOKEN || null,
    seal: key?.seal ?? null,
    wait: options.wait ?? (env.AWS_LAMBDA_RUNTIME_API ? LAMBDA_WAIT : 0),
    name: os.hostname(),
    developer: `${userOf(env)}@${os.hostname()}`,
    program: PROGRAM,
    claim: claimOf(options, env),
  };
}

function claimOf(options, env) {
  const isOn = (option, name) => option ?? ["1", "true", "yes"].includes(env[name] ?? "");
  return {
    rule: options.when ?? env.BUNGEE_WHEN ?? "all",
    mode: isOn(options.observe, "BUNGEE_OBSERVE") ? "observe" : "take",
    take_over: isOn(options.takeOver, "BUNGEE_TAKE_OVER"),
    hold_deadline: isOn(options.holdDeadline, "BUNGEE_HOLD_DEADLINE"),
    all: isOn(options.all, "BUNGEE_ALL"),
    concurrency: options.concurrency ?? null,
  };
}

function userOf(env) {
  try {
    return os.userInfo().username;
  } catch {
    return env.USER ?? env.USERNAME ?? "somebody";
  }
}

/** Without a path it is the place where every channel answers. */
function urlOf(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new Error(`BUNGEE_CHANNEL is no address: ${text}; it looks like ws://HOST:PORT or wss://HOST`);
  }
  if (url.protocol === "http:" || url.protocol === "https:") url = new URL(url.href.replace(/^http/, "ws"));
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new Error(`BUNGEE_CHANNEL begins with ${url.protocol}//, and this wrapper speaks ws:// and wss://; other channels arrive later`);
  }
  if (url.username || url.password) throw new Error("BUNGEE_CHANNEL holds a password; a token belongs into BUNGEE_TOKEN or BUNGEE_KEY");
  if (url.pathname === "/") url.pathname = "/v1/live";
  return url;
}

function isLocal(host) {
  return host === "localhost" || host === "[::1]" || /^127(\.\d+){3}$/.test(host);
}

/**
 * Which end this program is. A deployed program must never claim by accident: it is a session only if nothing looks deployed
 * and somebody sits in front of it, at a terminal or a debugger.
 * @param {NodeJS.ProcessEnv} env @returns {"host" | "session" | "off"}
 */
function roleOf(env) {
  const said = env.BUNGEE_ROLE;
  if (said === "host" || said === "session" || said === "off") return said;
  if (said) throw new Error(`BUNGEE_ROLE is \`${said}\`; it is one of: session, host, off`);
  if (env.NODE_ENV === "production" || DEPLOYED.some((name) => env[name]) || isContainer()) return "host";
  return isDebugged(env) || hasTerminal() ? "session" : "host";
}

function isContainer() {
  return fs.existsSync("/.dockerenv") || fs.existsSync("/run/.containerenv");
}

function isDebugged(env) {
  return inspector.url() !== undefined || env.VSCODE_INSPECTOR_OPTIONS !== undefined || process.execArgv.some((flag) => flag.startsWith("--inspect"));
}

function hasTerminal() {
  return Boolean(process.stdin.isTTY && process.stderr.isTTY);
}

module.exports = { settingsOf, roleOf, LONGEST };
