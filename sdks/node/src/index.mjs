// The same for `import`; one instance, whichever way it is loaded.
import bungee from "./index.js";

export const { live, createLive, LiveSessionLost } = bungee;
