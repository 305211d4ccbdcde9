/** What a handler is told besides its event. In Lambda it is Lambda's own context. */
export interface Context {
  functionName: string;
  functionVersion: string;
  awsRequestId: string;
  getRemainingTimeInMillis(): number;
  [more: string]: any;
}

/** `handler(event, context)`, asynchronous or not, or with Node's callback. */
export type EventHandler<Event = any, Result = any> =
  | ((event: Event, context: Context) => Result | Promise<Result>)
  | ((event: Event, context: Context, callback: (error?: unknown, result?: Result) => void) => void);

/** `(Request) => Response`; what else a platform hands over reaches the deployed code only. */
export type WebHandler<Rest extends unknown[] = unknown[]> = (request: Request, ...rest: Rest) => Response | Promise<Response>;

export interface Options {
  /** `ws://HOST:PORT` or `wss://HOST` of a server or a relay; instead of `BUNGEE_CHANNEL`. */
  channel?: string;
  /** `bk1.…`: token and seal key; instead of `BUNGEE_KEY`. */
  key?: string;
  /** A plain token; instead of `BUNGEE_TOKEN`. */
  token?: string;
  /** `host`: deployed, offers its invocations. `session`: a laptop, claims them. `off`: does nothing. Instead of `BUNGEE_ROLE`. */
  role?: "host" | "session" | "off";
  /** Deployed: milliseconds that an invocation may run where its context does not say; 900 000 if absent. */
  timeout?: number;
  /** Deployed: milliseconds that an invocation may wait to hear who is attached when that is not known; 500 in Lambda, else 0. */
  wait?: number;
  /** Laptop: which invocations are meant, such as `header:x-dev=ann`, `path:/v2/*`, `user:ann`, `percent:10`; instead of `BUNGEE_WHEN`. */
  when?: string;
  /** Laptop: get copies, and let the deployed answer count; instead of `BUNGEE_OBSERVE`. */
  observe?: boolean;
  /** Laptop: take the function from who holds it; instead of `BUNGEE_TAKE_OVER`. */
  takeOver?: boolean;
  /** Laptop: the deadline waits, for breakpoints; instead of `BUNGEE_HOLD_DEADLINE`. */
  holdDeadline?: boolean;
  /** Laptop: really all invocations, where the server is not only this machine's; instead of `BUNGEE_ALL`. */
  all?: boolean;
  /** Laptop: invocations at once; more are left to the deployed code. */
  concurrency?: number;
}

export interface WebOptions extends Options {
  /** Deployed: who asks, for rules of the kind `user:ann`; only what was verified counts. */
  user?: (request: Request) => string | undefined;
}

export interface Live {
  /**
   * One line around an event handler. Deployed, it asks the channel and else runs the handler; on a laptop it claims the function.
   * @param name `PROJECT/FUNCTION`, or `FUNCTION` of the project `default`
   */
  <Event = any, Result = any>(name: string, handler: EventHandler<Event, Result>, options?: Options): (event: Event, context?: any) => Promise<Result>;
  /** The same around a web handler. */
  web<Rest extends unknown[]>(name: string, handler: WebHandler<Rest>, options?: WebOptions): (request: Request, ...rest: Rest) => Promise<Response>;
  /** Gives every claim back, waits up to 5 seconds for what runs here, and closes the connections. */
  close(): Promise<void>;
}

export const live: Live;

/** A `live` with connections of its own. `env` stands for the environment; `say` gets the lines that go to stderr otherwise. */
export function createLive(options?: { env?: Record<string, string | undefined>; say?: (line: string) => void }): Live;

/** The developer's session was lost after it was told to run: the invocation failed, and ran nowhere else. */
export class LiveSessionLost extends Error {
  name: "LiveSessionLost";
}
