// Compiled, never run: the types of an ES module.
import { live, LiveSessionLost } from "bungee";

export const handler = live("hello", async (event: { name: string }) => `Hello, ${event.name}!`);
export const greeting: Promise<string> = handler({ name: "Ann" });
export const lost: Error = new LiveSessionLost();
