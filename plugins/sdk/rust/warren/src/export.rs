//! What the host calls: the ABI `core`. The macros write the exports into the plugin's own crate; outside of a sandbox,
//! as in `cargo test`, they are ordinary functions that nobody calls.

pub use crate::request::{answer, run};
use crate::{host, Config, Level};
use serde::de::DeserializeOwned;
use std::fmt::Display;

/// Room for the host to write into; whoever reads it owns it then.
pub fn allocate(len: usize) -> *mut u8 {
    Box::leak(vec![0; len].into_boxed_slice()).as_mut_ptr()
}

/// # Safety
/// The host wrote `len` bytes at `at`, which `allocate` gave it.
pub unsafe fn taken(at: *mut u8, len: usize) -> Vec<u8> {
    Vec::from_raw_parts(at, len, len)
}

/// Hand bytes over: they stay where they are, and their address and length go into one number.
pub fn pack(bytes: Vec<u8>) -> u64 {
    let bytes = Box::leak(bytes.into_boxed_slice());
    (bytes.as_ptr() as u64) << 32 | bytes.len() as u64
}

/// Say in the log why a panic ended the run; the trap itself has no words.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| host::log(Level::Error, &panic.to_string())));
}

/// 0 where the plugin took its configuration.
pub fn initialized<T: DeserializeOwned + Default, E: Display>(
    function: impl FnOnce(Config<T>) -> Result<(), E>,
    config: &[u8],
) -> i32 {
    let problem = match serde_json::from_slice(config) {
        Ok(config) => match function(config) {
            Ok(()) => return 0,
            Err(problem) => problem.to_string(),
        },
        Err(problem) => format!("the configuration cannot be read: {}", problem),
    };
    host::log(Level::Error, &problem);
    1
}

/// Make a crate a plugin: which function answers which action.
#[macro_export]
macro_rules! plugin {
    ($($action:literal => $function:expr),+ $(,)?) => {
        const _: () = {
            #[allow(dead_code)]
            #[cfg_attr(target_arch = "wasm32", no_mangle)]
            extern "C" fn allocate(len: usize) -> *mut u8 {
                $crate::export::allocate(len)
            }

            #[allow(dead_code)]
            #[cfg_attr(target_arch = "wasm32", no_mangle)]
            unsafe extern "C" fn handle_request(at: *mut u8, len: usize) -> u64 {
                $crate::export::tell_panics();
                let request = $crate::export::taken(at, len);
                $crate::export::pack($crate::export::answer(&request, |action, data| match action {
                    $($action => Some($crate::export::run($function, action, data)),)+
                    _ => None,
                }))
            }
        };
    };
}

/// Have a function take the plugin's configuration before its first request; an error fails the load.
#[macro_export]
macro_rules! initialize {
    ($function:expr) => {
        const _: () = {
            #[allow(dead_code)]
            #[cfg_attr(target_arch = "wasm32", no_mangle)]
            unsafe extern "C" fn initialize(at: *mut u8, len: usize) -> i32 {
                $crate::export::tell_panics();
                $crate::export::initialized($function, &$crate::export::taken(at, len))
            }
        };
    };
}

/// Have a function say whether the plugin is healthy, which it is asked when it is loaded and by `warren plugins`.
#[macro_export]
macro_rules! health_check {
    ($function:expr) => {
        const _: () = {
            #[allow(dead_code)]
            #[cfg_attr(target_arch = "wasm32", no_mangle)]
            extern "C" fn health_check() -> i32 {
                let healthy: bool = $function();
                healthy as i32
            }
        };
    };
}
