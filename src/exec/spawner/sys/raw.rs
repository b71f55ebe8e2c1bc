// SPDX-License-Identifier: Apache-2.0

//! System calls that use nothing of the C library: no `errno`, which belongs to a thread, where two processes run in the
//! same memory at the same time.

use std::ffi::{c_int, c_long};

/// Whether [`call`] leaves `errno` alone. Where it does not, it may only be used in memory of one's own.
pub(in crate::exec::spawner) const LEAVES_ERRNO: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// Makes a system call with up to five arguments.
///
/// # Errors
///
/// `errno`.
///
/// # Safety
///
/// What the system call asks of its caller.
pub(in crate::exec::spawner) unsafe fn call(number: c_long, arguments: [usize; 5]) -> Result<usize, c_int> {
    // SAFETY: the caller promises what the system call asks for.
    let result = unsafe { enter(number, arguments) };
    if (-4095..0).contains(&result) { Err(-result as c_int) } else { Ok(result as usize) }
}

#[cfg(target_arch = "x86_64")]
unsafe fn enter(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention (syscall(2)), which changes no other.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn enter(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention (syscall(2)), which changes no other.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "riscv64")]
unsafe fn enter(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention (syscall(2)), which changes no other.
    unsafe {
        std::arch::asm!(
            "ecall",
            in("a7") number,
            inlateout("a0") a as isize => result,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e,
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
unsafe fn enter(number: c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    // SAFETY: the caller promises what the system call asks for.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result == -1 {
        -(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) as isize)
    } else {
        result as isize
    }
}
