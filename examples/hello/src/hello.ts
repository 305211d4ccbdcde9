interface Context {
  /** The function's `env` of bungee.toml. */
  env: Record<string, string>;
}

/** Greets whoever the last part of the path names: /functions/hello/Ann, /hello/Ann. */
export default (request: Request, context: Context): Response => {
  const { pathname } = new URL(request.url);
  const [, name = "World"] = pathname.match(/\/hello\/([^/]+)\/?$/) ?? [];
  const greeting = context.env.GREETING ?? "Hello";
  return Response.json({ message: `${greeting}, ${decode(name)}!` });
};

/** `Ann%20Lee` becomes `Ann Lee`; what is no encoding stays as it is. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
