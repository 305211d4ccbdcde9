// Ways to stay busy past a deadline: inside the interpreter, inside the regular expressions, and inside built-ins,
// where the engine never asks whether it should stop.
const cases: Record<string, () => void | Promise<void>> = {
  none: () => {},
  loop: () => {
    for (;;) {}
  },
  promises: () => {
    const again = (): Promise<void> => Promise.resolve().then(again);
    return again();
  },
  regex: () => {
    /^(a+)+$/.test("a".repeat(64) + "b");
  },
  "indexOf in a loop": () => {
    const many = new Array(1e6).fill(0);
    for (;;) many.indexOf(-1);
  },
  "JSON.stringify": () => {
    const many = new Array(2e6).fill(1.5);
    for (;;) JSON.stringify(many);
  },
  replaceAll: () => {
    const long = "a".repeat(2e7);
    for (;;) long.replaceAll("a", "b");
  },
  "BigInt square": () => {
    const large = 10n ** 150000n; // squared, it still fits the engine
    for (;;) large * large;
  },
  "split, reverse, join": () => {
    const long = "a".repeat(2e7);
    for (;;) long.split("").reverse().join("");
  },
  "join and split": () => {
    const many = new Array(2e6).fill("a");
    for (;;) many.join(",").split(",");
  },
  encodeURIComponent: () => {
    const long = "é".repeat(5e6);
    for (;;) encodeURIComponent(long);
  },
};

export async function handler(event: { case: string }): Promise<string> {
  await cases[event.case]();
  return "ready";
}
