"""`doctor`: what is wrong on this device, and the fix. Facts are gathered once; each check judges them, pure."""
